//! Kept inputs: real ones to begin from, and those that once broke something.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// A folder's files in the order of their names; none if there is no such folder.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// Inputs from real captures and documents.
pub fn corpus(target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    files(&folder("corpus", target))
}

/// Inputs that once broke a target, with the files that they are in.
pub fn regressions(target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    files(&folder("regressions", target))
}

/// Keeps an input that broke a target; returns its file, named by its content.
pub fn keep(target: &str, input: &[u8]) -> io::Result<PathBuf> {
    let hash = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let folder = folder("regressions", target);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{hash:016x}"));
    fs::write(&path, input).map(|()| path)
}
