//! A backup in an S3 bucket, without the daemon that put it there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use backup::{BackupError, BackupName, Place, PlaceSettings, S3Settings, SecretKey, StoredBackup};
use zeroize::Zeroizing;

use super::Archive;
use crate::World;
use crate::command::S3;
use crate::error::{Trouble, chain};
use crate::input;
use crate::output::talk;

/// How long one request may take: a part of an archive on a slow line.
const PATIENCE: Duration = Duration::from_secs(120);

/// Opens `bucket/prefix/NAME`, or the newest of `bucket/prefix`.
pub(super) async fn open(path: &str, words: &S3, world: &World<'_>) -> Result<Archive, Trouble> {
    let asked = Asked::read(path)?;
    let ca_file = world.chosen.ca_file.clone();
    let settings = asked.settings(words, ca_file).await?;
    let place = Place::new(&PlaceSettings::S3(settings)).map_err(refused)?;
    let (name, bytes) = match &asked.name {
        Some(name) => (name.clone(), None),
        None => {
            let newest = newest(place.list().await.map_err(refused)?, path)?;
            talk(&format!("the newest there is {}", newest.name));
            (newest.name, Some(newest.bytes))
        }
    };
    let input = place.open(&name).await.map_err(refused)?;
    Ok(Archive {
        name: format!("s3://{}", asked.path_of(&name)),
        bytes,
        input,
    })
}

/// What stands behind `s3://`.
struct Asked {
    bucket: String,
    /// Without a slash at either end.
    prefix: String,
    name: Option<BackupName>,
}

impl Asked {
    fn read(path: &str) -> Result<Asked, Trouble> {
        let (bucket, rest) = path.split_once('/').unwrap_or((path, ""));
        if bucket.is_empty() {
            return Err(Trouble::Usage(
                "the bucket is missing: s3://bucket/prefix/NAME".into(),
            ));
        }
        let rest = rest.trim_matches('/');
        let (above, last) = rest.rsplit_once('/').unwrap_or(("", rest));
        let name: Option<BackupName> = last.parse().ok();
        Ok(Asked {
            bucket: bucket.to_owned(),
            prefix: if name.is_some() { above } else { rest }.to_owned(),
            name,
        })
    }

    fn path_of(&self, name: &BackupName) -> String {
        match self.prefix.is_empty() {
            true => format!("{}/{name}", self.bucket),
            false => format!("{}/{}/{name}", self.bucket, self.prefix),
        }
    }

    async fn settings(&self, words: &S3, ca_file: Option<PathBuf>) -> Result<S3Settings, Trouble> {
        let (Some(access_key), Some(file)) = (&words.access_key, &words.secret_key_file) else {
            return Err(Trouble::Usage(
                "a bucket is read with --access-key and --secret-key-file".into(),
            ));
        };
        let secret = input::line(file, "the secret of the access key").await?;
        Ok(S3Settings {
            endpoint: words.endpoint.clone(),
            region: words.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            path_style: !words.bucket_in_host,
            access_key: access_key.clone(),
            secret_key: SecretKey::known(Zeroizing::new(secret)),
            ca_file,
            timeout: PATIENCE,
        })
    }
}

/// The newest, if it is clear whose: a bucket may have those of many machines.
fn newest(mut kept: Vec<StoredBackup>, path: &str) -> Result<StoredBackup, Trouble> {
    let hosts: BTreeMap<String, String> = kept
        .iter()
        .rev()
        .map(|one| (one.name.host().to_owned(), one.name.to_string()))
        .collect();
    if hosts.len() > 1 {
        let names: Vec<String> = hosts.into_values().collect();
        return Err(Trouble::Usage(format!(
            "s3://{path} has backups of several machines; name one, such as the newest of each: {}",
            names.join(", ")
        )));
    }
    match kept.is_empty() {
        true => Err(Trouble::Partly(format!(
            "there is no backup in s3://{path}"
        ))),
        // the newest is first
        false => Ok(kept.swap_remove(0)),
    }
}

fn refused(error: BackupError) -> Trouble {
    match error {
        BackupError::S3Settings { .. } => Trouble::Usage(chain(&error)),
        other => Trouble::Partly(chain(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "sotp-core-20261121T023000Z.tar";

    #[test]
    fn a_path_is_a_bucket_a_prefix_and_perhaps_a_name() {
        let read = |path: &str| {
            let asked = Asked::read(path).unwrap();
            let name = asked.name.map(|name| name.to_string());
            (asked.bucket, asked.prefix, name.unwrap_or_default())
        };
        let parts = |bucket: &str, prefix: &str, name: &str| {
            (bucket.to_owned(), prefix.to_owned(), name.to_owned())
        };
        assert_eq!(read(&format!("b/{NAME}")), parts("b", "", NAME));
        assert_eq!(read(&format!("b/p/q/{NAME}")), parts("b", "p/q", NAME));
        assert_eq!(read("b/p/q/"), parts("b", "p/q", ""));
        assert_eq!(read("b"), parts("b", "", ""));
        for path in ["", "/p"] {
            assert!(Asked::read(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_newest_is_taken_if_it_is_clear_of_which_machine() {
        let kept = |names: &[&str]| {
            let stored = names.iter().map(|name| StoredBackup {
                name: name.parse().unwrap(),
                bytes: 1,
                modified: None,
            });
            newest(stored.collect(), "b")
        };
        let older = "sotp-core-20261120T023000Z.tar";
        assert_eq!(kept(&[NAME, older]).unwrap().name.to_string(), NAME);
        let other = "sotp-edge-20261120T023000Z.tar";
        let said = kept(&[NAME, other, older]).unwrap_err().to_string();
        assert!(
            said.contains(NAME) && said.contains(other) && !said.contains(older),
            "{said}"
        );
        assert!(kept(&[]).is_err());
    }
}
