//! backup, restore.

use crate::{
    Outcome,
    args::Output,
    print::{self, Out},
};
use anyhow::{Context, anyhow};
use bulkhead_client::Client;
use bulkhead_types::read_backup;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Seek, Write},
    path::{Path, PathBuf},
};

/// `bulkhead backup`
pub fn backup(client: &Client, out: &mut Out, file: &Path) -> anyhow::Result<Outcome> {
    if file.as_os_str() == "-" {
        io::copy(&mut client.backup()?, &mut io::stdout().lock()).context("the backup is not whole")?;
        return Ok(Outcome::Yes);
    }
    anyhow::ensure!(!file.exists(), "{} is there already; name another file", file.display());
    // It gets its name once it is whole, and on the disk.
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write(client, &part);
    let revision = match written {
        Ok(revision) => revision,
        Err(error) => {
            // It may not be there.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
    };
    fs::rename(&part, file).with_context(|| format!("cannot write {}", file.display()))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    out.line(format!("revision {revision} is in {}", file.display()));
    Ok(Outcome::Yes)
}

/// Writes a backup into `part` and reads it again; gives its revision.
fn write(client: &Client, part: &Path) -> anyhow::Result<u64> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    // Who may talk to whom is nobody else's business.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let cannot = || format!("cannot write {}", part.display());
    let mut to = options.open(part).with_context(cannot)?;
    io::copy(&mut client.backup()?, &mut to).context("the backup is not whole")?;
    to.flush().and_then(|()| to.sync_all()).with_context(cannot)?;
    to.rewind()?;
    let head = read_backup(BufReader::new(to), |_| Ok(())).map_err(|why| anyhow!("the backup is not whole: {why}"))?;
    Ok(head.revision)
}

/// `bulkhead restore`
pub fn restore(client: &Client, output: Output, out: &mut Out, file: &Path) -> anyhow::Result<Outcome> {
    let shown = file.display();
    let open = || File::open(file).with_context(|| format!("cannot read {shown}"));
    // A damaged one need not be sent; the controller looks for itself too.
    if let Err(why) = read_backup(BufReader::new(open()?), |_| Ok(())) {
        print::note(&format!("error: {shown} cannot be restored: {why}"));
        print::note("nothing was changed");
        return Ok(Outcome::Failed);
    }
    let answer = client.restore(open()?)?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
    } else {
        out.line(format!("revision {} is in force again, with {} resources", answer.revision, answer.resources));
    }
    Ok(Outcome::Yes)
}
