//! [`Cabinet`]: where the small files are that belong to the platform and not to one controller: keys of
//! the data plane, join tokens, what was carried.
//!
//! A lone controller has them in its data folder. Controllers that share a store share them too; each
//! file has a version there, and is replaced only by one who has read the last one. So a controller that
//! has been slow cannot put back what another has since moved on.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::files;

/// Keeps files by name.
pub trait Cabinet: fmt::Debug + Send + Sync {
    /// The file, if there is one, and its version. May block.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, name: &str) -> io::Result<(Option<Vec<u8>>, Version)>;

    /// Replaces the file, unless its version is another one; durable when it returns. May block.
    ///
    /// # Errors
    /// `ResourceBusy` when somebody else has replaced it; others when it cannot be written.
    fn replace(&self, name: &str, bytes: &[u8], over: Version) -> io::Result<Version>;
}

/// Which state of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version(pub(crate) i64);

/// One file, and the version that was read or written last.
#[derive(Clone, Debug)]
pub struct Sheet {
    cabinet: Arc<dyn Cabinet>,
    name: String,
    version: Version,
}

/// The data folder of a lone controller.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The files of `folder`.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl Cabinet for Folder {
    fn read(&self, name: &str) -> io::Result<(Option<Vec<u8>>, Version)> {
        match fs::read(self.0.join(name)) {
            Ok(content) => Ok((Some(content), Version::default())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, Version::default())),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8], over: Version) -> io::Result<Version> {
        files::replace_secret(&self.0.join(name), bytes)?;
        Ok(over)
    }
}

impl Sheet {
    /// The file `name` of `cabinet`.
    pub fn new(cabinet: &Arc<dyn Cabinet>, name: &str) -> Self {
        let version = Version::default();
        Self { cabinet: Arc::clone(cabinet), name: name.to_owned(), version }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says now. May block.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (content, version) = self.cabinet.read(&self.name)?;
        self.version = version;
        Ok(content)
    }

    /// Replaces what was read or written last. May block.
    ///
    /// # Errors
    /// `ResourceBusy` when somebody else has replaced it; others when it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.version = self.cabinet.replace(&self.name, bytes, self.version)?;
        Ok(())
    }

    /// A file in a folder, for tests.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let folder: Arc<dyn Cabinet> = Arc::new(Folder::new(path.parent().expect("a folder")));
        Self::new(&folder, name)
    }
}
