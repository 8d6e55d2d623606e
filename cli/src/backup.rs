//! `isocast backup`: a copy of the whole platform, taken while it runs.
//!
//! The file gets its name only once it is whole: its last bytes are a BLAKE3 hash of all the others.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::{client::Client, files};

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// File to write; it must not exist
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// The last frame: its tag, the lengths of no key and of a hash, and the hash.
const END_BYTES: usize = 9 + blake3::OUT_LEN;
const END_TAG: [u8; 9] = [b'e', 0, 0, 0, 0, 0, 0, 0, 32];

pub(crate) fn run(
    client: &Client,
    arguments: &BackupArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let path = &arguments.file;
    if fs::exists(path).with_context(|| path.display().to_string())? {
        bail!("{} exists", path.display());
    }
    let bytes = files::write_whole(path, |file| download(client, file))?;
    writeln!(
        out,
        "{}: {bytes} bytes. Whoever has it has the platform: its objects, its certificate authority \
         and its keys.",
        path.display()
    )
    .context("cannot write")
}

fn download(client: &Client, file: &File) -> anyhow::Result<u64> {
    let mut checked = Checked::new(file);
    client.download("/backup", &mut checked)?;
    checked.finish()
}

/// Writes on, and keeps the hash of everything but what may be the end.
struct Checked<'a> {
    file: &'a File,
    hasher: blake3::Hasher,
    tail: Vec<u8>,
    bytes: u64,
}

impl<'a> Checked<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, hasher: blake3::Hasher::new(), tail: Vec::new(), bytes: 0 }
    }

    fn finish(self) -> anyhow::Result<u64> {
        let hash = self.hasher.finalize();
        let expected = [&END_TAG[..], hash.as_bytes()].concat();
        if self.tail != expected {
            bail!("the backup is not whole: the controller broke off, its log says why");
        }
        Ok(self.bytes)
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.tail.extend_from_slice(bytes);
        let certain = self.tail.len().saturating_sub(END_BYTES);
        let rest = self.tail.split_off(certain);
        self.hasher.update(&self.tail);
        self.tail = rest;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(body: &[u8]) -> Vec<u8> {
        [body, &END_TAG, blake3::hash(body).as_bytes()].concat()
    }

    fn is_whole(stream: &[u8], piece: usize) -> bool {
        let file = tempfile::tempfile().expect("a file");
        let mut checked = Checked::new(&file);
        for piece in stream.chunks(piece) {
            checked.write_all(piece).expect("writable");
        }
        checked.finish().is_ok_and(|bytes| bytes == stream.len() as u64)
    }

    #[test]
    fn only_a_whole_stream_is_a_backup_whatever_pieces_it_comes_in() {
        let stream = stream(&[7; 1000]);
        for piece in [1, 40, 41, 42, 999, 5000] {
            assert!(is_whole(&stream, piece), "pieces of {piece}");
        }
        for cut in [0, 40, 41, 500, stream.len() - 1] {
            assert!(!is_whole(&stream[..cut], 100), "cut at {cut}");
        }
        let mut altered = stream;
        altered[3] ^= 1;
        assert!(!is_whole(&altered, 100));
    }
}
