//! One file on its way: bytes appended to `FILE.part`, hashed as they come, resumed after cut
//! connections and after the end of the process, and renamed only when they are the right ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::fetch::{Event, FetchError, Watch};
use super::hub::{Hub, HubError, RemoteFile, Reply, Repo, hex_of};
use super::lock::Lock;
use super::manifest::{FileSum, read_json, write_json};

/// Bytes collected before they are written and hashed together.
const BLOCK: usize = 1 << 20;

/// What is known of a part besides its bytes: `FILE.part.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Size and hashes that the whole should have.
    size: Option<u64>,
    sha256: Option<String>,
    git_sha1: Option<String>,
    /// The mark of the server that sent the bytes, for `If-Range`.
    etag: Option<String>,
}

/// What a file is fetched from and into.
pub(super) struct Task<'a> {
    pub hub: &'a Hub,
    pub repo: &'a Repo,
    pub commit: &'a str,
    /// Its place in the list that was announced.
    pub place: usize,
    pub folder: &'a Path,
    pub watch: &'a Watch,
    pub lock: &'a Arc<Lock>,
    /// Most bytes taken of a file whose size nobody tells.
    pub most: u64,
}

/// Why an attempt ended early.
enum Setback {
    /// The connection or the server failed; the bytes so far are good.
    Hub(HubError),
    /// The bytes are not the file's: begin again.
    Wrong(String),
    Disk(FetchError),
}

/// A setback, with the part where that is still at hand.
type Stopped = Box<(Setback, Option<Part>)>;

impl From<HubError> for Setback {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

/// The part file, its length and its hash so far. Moves to a blocking thread and back.
struct Part {
    file: File,
    length: u64,
    hash: Sha256,
    /// Held until the last write is through, even if whoever waits for it has gone.
    _lock: Arc<Lock>,
}

impl Task<'_> {
    /// Fetches one file and answers what it is.
    ///
    /// # Errors
    /// [`FetchError`] once trying again is of no use; the part is kept where its bytes are good.
    pub(super) async fn run(&self, wanted: &RemoteFile) -> Result<FileSum, FetchError> {
        let target = self.folder.join(&wanted.path);
        let part_path = beside(&target, ".part");
        let mark_path = beside(&target, ".part.json");
        let mut wanted = wanted.clone();
        let mut mark = self.recall(&wanted, &part_path, &mark_path)?;
        let mut part = self.open(&part_path).await?;
        self.say_bytes(part.length);
        let (mut failures, mut wrong) = (0, 0);
        loop {
            let before = part.length;
            let attempt = self.attempt(&mut wanted, &mut mark, &mark_path, part).await;
            let (setback, kept) = match attempt {
                Ok(sum) => {
                    let move_into_place = || {
                        fs::rename(&part_path, &target)?;
                        remove_if_there(&mark_path)
                    };
                    move_into_place().map_err(FetchError::disk(&target))?;
                    (self.watch)(Event::Finished { file: self.place });
                    return Ok(sum);
                }
                Err(stopped) => *stopped,
            };
            match setback {
                Setback::Disk(error) => return Err(error),
                Setback::Hub(HubError::Final(words)) => {
                    return Err(FetchError::Hub(words));
                }
                Setback::Hub(HubError::Passing { message, wait }) => {
                    part = match kept {
                        Some(part) => part,
                        None => self.open(&part_path).await?,
                    };
                    failures = if part.length > before {
                        1
                    } else {
                        failures + 1
                    };
                    if failures > self.hub.settings().retries {
                        return Err(FetchError::Hub(format!(
                            "{message} (tried {failures} times in a row); what has come is kept: run the same again to go on"
                        )));
                    }
                    let wait = wait.unwrap_or_else(|| self.hub.back_off(failures));
                    (self.watch)(Event::Retrying {
                        file: self.place,
                        reason: message,
                        seconds: wait.as_secs_f64(),
                    });
                    tokio::time::sleep(wait).await;
                }
                Setback::Wrong(reason) => {
                    drop(kept);
                    remove_if_there(&part_path)
                        .and_then(|()| remove_if_there(&mark_path))
                        .map_err(FetchError::disk(&part_path))?;
                    wrong += 1;
                    if wrong > 1 {
                        return Err(FetchError::Hub(format!(
                            "{}: {reason}, twice; the copy on the server or the way to it is damaged. Nothing was installed",
                            wanted.path
                        )));
                    }
                    (self.watch)(Event::Restarting {
                        file: self.place,
                        reason,
                    });
                    mark.etag = None;
                    part = self.open(&part_path).await?;
                    self.say_bytes(0);
                }
            }
        }
    }

    fn say_bytes(&self, have: u64) {
        (self.watch)(Event::Bytes {
            file: self.place,
            have,
        });
    }

    /// What an earlier run knew of its part; a part of another file is thrown away.
    fn recall(
        &self,
        wanted: &RemoteFile,
        part_path: &Path,
        mark_path: &Path,
    ) -> Result<Mark, FetchError> {
        let now = Mark {
            size: wanted.size,
            sha256: wanted.sha256.clone(),
            git_sha1: wanted.git_sha1.clone(),
            etag: None,
        };
        let old: Option<Mark> = read_json(mark_path).unwrap_or_default();
        let same = old.filter(|old| {
            let hashed = now.sha256.is_some() || now.git_sha1.is_some() || old.etag.is_some();
            hashed
                && (now.size.is_none() || old.size == now.size)
                && (now.sha256.is_none() || old.sha256 == now.sha256)
                && (now.git_sha1.is_none() || old.git_sha1 == now.git_sha1)
        });
        match same {
            Some(old) => Ok(old),
            None => {
                remove_if_there(part_path).map_err(FetchError::disk(part_path))?;
                if let Some(parent) = part_path.parent() {
                    fs::create_dir_all(parent).map_err(FetchError::disk(parent))?;
                }
                write_json(mark_path, &now).map_err(FetchError::disk(mark_path))?;
                Ok(now)
            }
        }
    }

    /// Opens the part and hashes what it has.
    async fn open(&self, path: &Path) -> Result<Part, FetchError> {
        let path = path.to_owned();
        let lock = self.lock.clone();
        let (watch, place) = (self.watch.clone(), self.place);
        blocking(move || {
            let read = || -> io::Result<Part> {
                let mut file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .read(true)
                    .write(true)
                    .open(&path)?;
                let mut hash = Sha256::new();
                let mut block = vec![0; BLOCK];
                let mut length = 0;
                loop {
                    let got = file.read(&mut block)?;
                    if got == 0 {
                        break;
                    }
                    hash.update(&block[..got]);
                    length += got as u64;
                    watch(Event::Checking {
                        file: place,
                        have: length,
                    });
                }
                Ok(Part {
                    file,
                    length,
                    hash,
                    _lock: lock,
                })
            };
            read().map_err(FetchError::disk(&path))
        })
        .await
    }

    /// One request and what comes of it. A setback hands the part back where it is still at hand.
    async fn attempt(
        &self,
        wanted: &mut RemoteFile,
        mark: &mut Mark,
        mark_path: &Path,
        mut part: Part,
    ) -> Result<FileSum, Stopped> {
        if wanted.size.is_none_or(|size| part.length < size) {
            let if_range = mark.etag.clone().filter(|etag| is_strong(etag));
            let opened = self
                .hub
                .open(
                    self.repo,
                    self.commit,
                    &wanted.path,
                    part.length,
                    if_range.as_deref(),
                )
                .await;
            let mut reply = match opened {
                Ok(reply) => reply,
                Err(error) => return Err(Box::new((error.into(), Some(part)))),
            };
            let begin = match check_answer(&reply, wanted, part.length) {
                Ok(begin) => begin,
                Err(setback) => return Err(Box::new((setback, Some(part)))),
            };
            if begin < part.length {
                part = match part.cut().await {
                    Ok(part) => part,
                    Err(error) => return Err(Box::new((Setback::Disk(error), None))),
                };
                self.say_bytes(0);
            }
            learn(wanted, &reply);
            let etag = text_of(&reply.headers, ETAG.as_str());
            if mark.etag != etag || mark.size != wanted.size {
                mark.etag = etag;
                mark.size = wanted.size;
                if let Err(error) = write_json(mark_path, mark) {
                    return Err(Box::new((
                        Setback::Disk(FetchError::disk(mark_path)(error)),
                        Some(part),
                    )));
                }
            }
            part = self.receive(&mut reply, wanted, part).await?;
        }
        let (sum, git) = match part.finish(wanted.git_sha1.is_some()).await {
            Ok(sums) => sums,
            Err(error) => return Err(Box::new((Setback::Disk(error), None))),
        };
        let wrong = |what: &str| {
            Err(Box::new((
                Setback::Wrong(format!(
                    "its bytes are not the ones that the hub lists ({what} differs)"
                )),
                None,
            )))
        };
        if wanted.size.is_some_and(|size| size != sum.size) {
            return wrong("the size");
        }
        if wanted
            .sha256
            .as_ref()
            .is_some_and(|hash| *hash != sum.sha256)
        {
            return wrong("SHA-256");
        }
        if let (Some(expected), Some(got)) = (&wanted.git_sha1, git)
            && *expected != got
        {
            return wrong("git's SHA-1");
        }
        Ok(sum)
    }

    async fn receive(
        &self,
        reply: &mut Reply,
        wanted: &RemoteFile,
        mut part: Part,
    ) -> Result<Part, Stopped> {
        let most = wanted.size.unwrap_or(self.most);
        let mut block = Vec::with_capacity(BLOCK);
        let mut end: Option<Setback> = None;
        loop {
            match reply.chunk().await {
                Ok(Some(bytes)) => {
                    let have = part.length + block.len() as u64;
                    if bytes.len() as u64 > most - have.min(most) {
                        end = Some(Setback::Wrong(format!(
                            "the server sends more than the {most} bytes that it should have"
                        )));
                    } else {
                        block.extend_from_slice(&bytes);
                        self.say_bytes(part.length + block.len() as u64);
                    }
                }
                Ok(None) => {
                    let have = part.length + block.len() as u64;
                    if wanted.size.is_some_and(|size| have < size) {
                        end = Some(Setback::Hub(HubError::passing(format!(
                            "{} ended the transfer early",
                            reply.host()
                        ))));
                    }
                    if !block.is_empty() {
                        part = part
                            .append(block)
                            .await
                            .map_err(|error| Box::new((Setback::Disk(error), None)))?;
                    }
                    return match end {
                        None => Ok(part),
                        Some(setback) => Err(Box::new((setback, Some(part)))),
                    };
                }
                Err(error) => end = Some(error.into()),
            }
            if end.is_some() || block.len() >= BLOCK {
                let full = std::mem::replace(&mut block, Vec::with_capacity(BLOCK));
                part = part
                    .append(full)
                    .await
                    .map_err(|error| Box::new((Setback::Disk(error), None)))?;
            }
            if let Some(setback) = end {
                return Err(Box::new((setback, Some(part))));
            }
        }
    }
}

impl Part {
    /// Writes and hashes on a thread that may wait for the disk.
    async fn append(mut self, block: Vec<u8>) -> Result<Self, FetchError> {
        blocking(move || {
            self.file
                .write_all(&block)
                .map_err(FetchError::disk("the part of a download"))?;
            self.hash.update(&block);
            self.length += block.len() as u64;
            Ok(self)
        })
        .await
    }

    /// Throws away what has come.
    async fn cut(mut self) -> Result<Self, FetchError> {
        blocking(move || {
            self.file
                .set_len(0)
                .and_then(|()| self.file.seek(SeekFrom::Start(0)))
                .map_err(FetchError::disk("the part of a download"))?;
            self.length = 0;
            self.hash = Sha256::new();
            Ok(self)
        })
        .await
    }

    /// Makes the bytes durable and answers what they are; git's hash too, where it is needed.
    async fn finish(mut self, with_git: bool) -> Result<(FileSum, Option<String>), FetchError> {
        blocking(move || {
            let mut read = || -> io::Result<Option<String>> {
                self.file.sync_all()?;
                if !with_git {
                    return Ok(None);
                }
                // git hashes the length first, which was not known at the start: small files only.
                let mut git = Sha1::new();
                git.update(format!("blob {}\0", self.length));
                self.file.seek(SeekFrom::Start(0))?;
                let mut block = vec![0; BLOCK];
                loop {
                    let got = self.file.read(&mut block)?;
                    if got == 0 {
                        return Ok(Some(hex::encode(git.finalize())));
                    }
                    git.update(&block[..got]);
                }
            };
            let git = read().map_err(FetchError::disk("the part of a download"))?;
            let sum = FileSum {
                size: self.length,
                sha256: hex::encode(self.hash.finalize()),
            };
            Ok((sum, git))
        })
        .await
    }
}

/// Where the bytes of an answer begin: 0, or where we asked for.
fn check_answer(reply: &Reply, wanted: &RemoteFile, have: u64) -> Result<u64, Setback> {
    let encoding = text_of(&reply.headers, CONTENT_ENCODING.as_str());
    if let Some(encoding) = encoding.filter(|encoding| encoding != "identity") {
        return Err(Setback::Hub(HubError::Final(format!(
            "{} sends {} compressed ({encoding}), which it was asked not to do",
            reply.host(),
            wanted.path
        ))));
    }
    let (begin, total) = match reply.status {
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Err(Setback::Wrong(format!(
                "the server has fewer than the {have} bytes that have come already"
            )));
        }
        StatusCode::PARTIAL_CONTENT => {
            let range = text_of(&reply.headers, CONTENT_RANGE.as_str());
            let Some((begin, total)) = range.as_deref().and_then(read_content_range) else {
                return Err(Setback::Wrong(
                    "the server sends a part without saying which".into(),
                ));
            };
            if begin != have {
                return Err(Setback::Wrong(format!(
                    "the server sends from byte {begin} where {have} was asked for"
                )));
            }
            (begin, total)
        }
        _ => {
            let length = text_of(&reply.headers, CONTENT_LENGTH.as_str());
            (0, length.and_then(|text| text.parse().ok()))
        }
    };
    match (wanted.size, total) {
        (Some(size), Some(total)) if size != total => Err(Setback::Wrong(format!(
            "the server has {total} bytes where the hub lists {size}"
        ))),
        _ => Ok(begin),
    }
}

/// Size and hash from the answer's headers, where the listing had none.
fn learn(wanted: &mut RemoteFile, reply: &Reply) {
    if wanted.size.is_none() {
        let linked = text_of(&reply.from_hub, "x-linked-size").and_then(|text| text.parse().ok());
        let range = text_of(&reply.headers, CONTENT_RANGE.as_str());
        let ranged = range
            .as_deref()
            .and_then(read_content_range)
            .and_then(|(_, total)| total);
        let length = (reply.status == StatusCode::OK)
            .then(|| {
                text_of(&reply.headers, CONTENT_LENGTH.as_str())?
                    .parse()
                    .ok()
            })
            .flatten();
        wanted.size = linked.or(ranged).or(length);
    }
    if wanted.sha256.is_none() && wanted.git_sha1.is_none() {
        // The hub's mark of a large file is its SHA-256, of a small one git's hash. Other servers'
        // marks may be anything.
        let named = text_of(&reply.from_hub, "x-linked-etag")
            .or_else(|| text_of(&reply.from_hub, ETAG.as_str()));
        if let Some(named) = named {
            let bare = named.trim_start_matches("W/").trim_matches('"');
            wanted.sha256 = hex_of(bare, 64);
            if reply.from_hub.contains_key("x-repo-commit") {
                wanted.git_sha1 = hex_of(bare, 40);
            }
        }
    }
}

/// `bytes FIRST-LAST/TOTAL`.
fn read_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (begin, _) = range.split_once('-')?;
    Some((begin.trim().parse().ok()?, total.trim().parse().ok()))
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// Only a strong mark may stand in `If-Range` (RFC 9110, 13.1.5).
fn is_strong(etag: &str) -> bool {
    etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"')
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs what waits for the disk where waiting hurts nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(FetchError::Hub(format!("a thread ended early: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(read_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read_content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes", "bytes */10", "items 1-2/3", "bytes x-2/3"] {
            assert_eq!(read_content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn weak_marks_do_not_make_a_condition() {
        assert!(is_strong("\"a\""));
        for weak in ["W/\"a\"", "a", "\"\"", "\""] {
            assert!(!is_strong(weak), "{weak}");
        }
    }
}
