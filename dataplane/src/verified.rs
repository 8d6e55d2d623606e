//! Having the kernel verify a program, again where a signal came in between.
//!
//! The verifier gives up with `EAGAIN` as soon as a signal is pending for the thread that asked, and our
//! programs take it the better part of a second. That says nothing about the program.

use std::io;

use aya::programs::ProgramError;
use nix::errno::Errno;

/// How often a program is handed over, at most.
const ATTEMPTS: u32 = 5;

/// Loads a program by `load`, which may be asked more than once.
pub(crate) fn load_verified(
    program: &str,
    load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    let was_interrupted = |error: &ProgramError| matches!(error, ProgramError::LoadError { io_error, .. } if was_interrupted(io_error));
    until_verified(program, load, was_interrupted)
}

fn until_verified<E>(
    program: &str,
    mut load: impl FnMut() -> Result<(), E>,
    was_interrupted: impl Fn(&E) -> bool,
) -> Result<(), E> {
    for attempt in 1..ATTEMPTS {
        match load() {
            Err(error) if was_interrupted(&error) => {
                tracing::warn!(program, attempt, "a signal interrupted the verifier; once more");
            }
            outcome => return outcome,
        }
    }
    load()
}

fn was_interrupted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EAGAIN as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of it, and how often it was asked, where the answers come in turn, the last for ever.
    fn loaded(answers: &[Option<Errno>]) -> (Result<(), Option<i32>>, usize) {
        let mut asked = 0;
        let load = || {
            let answer = answers.get(asked).or_else(|| answers.last()).copied().flatten();
            asked += 1;
            answer.map_or(Ok(()), |errno| Err(io::Error::from(errno)))
        };
        let outcome = until_verified("isocast", load, was_interrupted);
        (outcome.map_err(|error| error.raw_os_error()), asked)
    }

    #[test]
    fn interrupted_verification_is_begun_again() {
        assert_eq!(loaded(&[None]), (Ok(()), 1));
        assert_eq!(loaded(&[Some(Errno::EAGAIN), Some(Errno::EAGAIN), None]), (Ok(()), 3));
    }

    #[test]
    fn verification_that_is_always_interrupted_ends() {
        let (outcome, asked) = loaded(&[Some(Errno::EAGAIN)]);

        assert_eq!(outcome, Err(Some(Errno::EAGAIN as i32)));
        assert_eq!(asked, 5);
    }

    #[test]
    fn program_that_the_kernel_refuses_is_not_handed_over_again() {
        let refusal = (Err(Some(Errno::EACCES as i32)), 1);

        assert_eq!(loaded(&[Some(Errno::EACCES), None]), refusal);
    }
}
