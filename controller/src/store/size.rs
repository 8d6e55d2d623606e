//! How large an object is, without writing it anywhere.

use std::io;

use serde_json::Value;

/// Length of `value` as JSON.
pub(crate) fn of(value: &Value) -> usize {
    let mut counter = Counter(0);
    // Counting cannot fail, and a value's keys are always text.
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_size_is_that_of_the_text() {
        let value = json!({"a": [1, "zwei", null, true], "b": {"c": 1.5}});

        assert_eq!(super::of(&value), value.to_string().len());
    }
}
