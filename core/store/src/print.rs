//! The head of a database file as it lies on the disk, seen past SQLite, which trusts what it remembers of it.
//!
//! Invariant: the file that is watched is never closed while a connection of this process may have it open: POSIX
//! drops a process's locks on a file with the first descriptor of it that is closed.

use std::fs::{File, Metadata};
use std::path::Path;

/// Bytes of the head (<https://www.sqlite.org/fileformat.html#the_database_header>).
const HEAD: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Looks in a row that may find the file shorter than its head says.
const MOST_SHORT: u32 = 3;

/// What a head says that SQLite changes never, or only forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    page_size: u64,
    pages: u32,
    /// Counts changes of page 1.
    changes: u32,
    /// Counts changes of the schema.
    schema: u32,
    encoding: u32,
    user_version: u32,
    application: u32,
}

impl Print {
    fn read(head: &[u8; HEAD]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = head.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let page_size = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => u64::from(size),
            _ => return None,
        };
        if head[..16] != MAGIC[..] {
            return None;
        }
        Some(Self {
            page_size,
            pages: number(28)?,
            changes: number(24)?,
            schema: number(40)?,
            encoding: number(56)?,
            user_version: number(60)?,
            application: number(68)?,
        })
    }

    /// Whether it can have become `later` by what SQLite writes, where the schema has changed at most up to `schema`.
    fn may_become(&self, later: &Self, schema: u32) -> bool {
        let forwards = |from: u32, to: u32| to.wrapping_sub(from) < u32::MAX / 2;
        (self.page_size, self.encoding, self.user_version, self.application)
            == (later.page_size, later.encoding, later.user_version, later.application)
            && forwards(self.changes, later.changes)
            && forwards(self.schema, later.schema)
            && forwards(later.schema, schema)
    }
}

/// What a look at the file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// What SQLite knows, or what it can have made of that.
    Same,
    /// The schema is another one; whether SQLite knows of it is to be asked.
    Schema,
    /// Something else wrote it.
    Foreign,
}

/// A file that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    file: File,
    /// None as long as there is no head: all of it may still be in the write-ahead log.
    known: Option<Print>,
    /// Looks in a row that found it too short.
    short: u32,
}

impl Watched {
    /// Opens the file that a connection has open.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let mut watched = Self { file: File::open(path)?, known: None, short: 0 };
        watched.begin();
        Ok(watched)
    }

    /// Whatever lies there now is what SQLite has just read.
    pub(crate) fn begin(&mut self) {
        self.known = head(&self.file).ok().flatten().and_then(|head| Print::read(&head));
        self.short = 0;
    }

    /// The file's metadata.
    pub(crate) fn metadata(&self) -> std::io::Result<Metadata> {
        self.file.metadata()
    }

    /// Looks; `schema` is what SQLite says that the schema's count is, where it was asked.
    pub(crate) fn look(&mut self, schema: Option<u32>) -> Look {
        // A disk that fails is SQLite's to tell.
        let Ok(head) = head(&self.file) else { return Look::Same };
        let print = head.and_then(|head| Print::read(&head));
        let (known, print) = match (self.known, print) {
            (None, print) => {
                self.known = print;
                return Look::Same;
            }
            (Some(_), None) => return Look::Foreign,
            (Some(known), Some(print)) => (known, print),
        };
        if print.schema != known.schema && schema.is_none() {
            return Look::Schema;
        }
        if !known.may_become(&print, schema.unwrap_or(print.schema)) {
            return Look::Foreign;
        }
        self.known = Some(print);
        // A checkpoint under way writes the head first.
        let length = self.file.metadata().map_or(u64::MAX, |meta| meta.len());
        let whole = length >= print.page_size.saturating_mul(print.pages.into());
        self.short = if whole { 0 } else { self.short + 1 };
        if self.short > MOST_SHORT { Look::Foreign } else { Look::Same }
    }
}

/// The file's head; none where the file is too short to have one.
fn head(file: &File) -> std::io::Result<Option<[u8; HEAD]>> {
    let mut head = [0; HEAD];
    match read_exact_at_start(file, &mut head) {
        Ok(()) => Ok(Some(head)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn read_exact_at_start(file: &File, into: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, 0)
}

#[cfg(not(unix))]
fn read_exact_at_start(mut file: &File, into: &mut [u8]) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(changes: u32, schema: u32) -> Print {
        Print { page_size: 4096, pages: 2, changes, schema, encoding: 1, user_version: 0, application: 0 }
    }

    #[test]
    fn what_sqlite_writes_goes_forwards() {
        let known = print(10, 4);
        assert!(known.may_become(&known, 4));
        assert!(known.may_become(&print(12, 5), 5));
        assert!(known.may_become(&print(12, 5), 6), "not all of it is in the file yet");
        assert!(print(u32::MAX, 4).may_become(&print(0, 4), 4), "it starts over");
        assert!(!known.may_become(&print(9, 4), 4), "an older copy");
        assert!(!known.may_become(&print(12, 3), 4), "an older schema");
        assert!(!known.may_become(&print(12, 9), 4), "a schema that nobody made here");
        assert!(!known.may_become(&Print { user_version: 7, ..known }, 4), "another program's");
        assert!(!known.may_become(&Print { page_size: 512, ..known }, 4));
    }

    #[test]
    fn heads_of_anything() {
        assert_eq!(Print::read(&[0; HEAD]), None);
        assert_eq!(Print::read(&[0x5a; HEAD]), None);
        let mut head = [0; HEAD];
        head[..16].copy_from_slice(MAGIC);
        assert_eq!(Print::read(&head), None, "no page is that small");
        (head[16], head[17]) = (0x10, 0);
        assert_eq!(Print::read(&head).map(|print| print.page_size), Some(4096));
    }
}
