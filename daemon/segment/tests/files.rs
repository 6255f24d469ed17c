//! Files of samples: what was written comes back, and what was not does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segment::{Segment, SegmentError, SegmentWriter, Span, Tier};
use support::{Groups, read, row, write};
use wal::fs::sim::SimFs;
use wal::fs::{Fs, RealFs};

const FRESH: (Tier, Span) = (Tier::Raw, Span::Fresh);

fn disk() -> (SimFs, Arc<dyn Fs>, PathBuf) {
    let sim = SimFs::default();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    fs.create_dir(Path::new("/seg")).unwrap();
    (sim, fs, PathBuf::from("/seg/00000001.seg.tmp"))
}

/// Two groups, columns that change, absent values.
fn some_groups() -> Groups {
    let early = (0..70_u32).map(|minute| {
        let at = 1_700_000_000_000 + u64::from(minute) * 60_000 + u64::from(minute % 7);
        let count = f64::from(minute);
        let level = if minute % 9 == 0 {
            f64::NAN
        } else {
            0.25 * count
        };
        row(at, 1, &[count * 1_000.0, count * 77.0, level, 1.0])
    });
    let late = (70..90_u32).map(|minute| {
        let at = 1_700_000_000_000 + u64::from(minute) * 60_000;
        row(at, 2, &[f64::from(minute), 6_000.0 + f64::from(minute)])
    });
    let first: Vec<_> = early.chain(late).collect();
    let second = first[10..40].to_vec();
    Groups::from([(7, first), (4_000_000_000, second)])
}

fn open(fs: &Arc<dyn Fs>, path: &Path) -> Result<Segment, SegmentError> {
    Segment::open(fs, path)
}

#[test]
fn what_was_written_comes_back() {
    let (_, fs, path) = disk();
    let groups = some_groups();
    let summary = write(&fs, &path, FRESH, &groups, 30).unwrap().unwrap();
    let segment = open(&fs, &path).unwrap();
    assert_eq!(read(&segment), Ok(groups));
    assert_eq!(segment.summary(), &summary);
    segment.verify().unwrap();
    assert_eq!((summary.tier, summary.span), FRESH);
    assert_eq!(summary.from, 1_700_000_000_000);
    assert_eq!(summary.until, 1_700_005_340_000);
    assert_eq!(
        (summary.rows, summary.samples),
        (120, 70 * 4 + 20 * 2 + 30 * 4)
    );
    let values: Vec<u64> = summary.kinds.iter().map(|(values, _)| *values).collect();
    assert_eq!(values, [100, 120, 120, 100]);
    let bytes: u64 = summary.kinds.iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes > 0 && bytes < summary.bytes);
    let on_disk = fs.list(Path::new("/seg")).unwrap();
    assert_eq!(on_disk, [("00000001.seg.tmp".to_owned(), summary.bytes)]);
}

#[test]
fn the_blocks_of_a_group_are_found() {
    let (_, fs, path) = disk();
    write(&fs, &path, FRESH, &some_groups(), 30).unwrap();
    let segment = open(&fs, &path).unwrap();
    let rows = |group| -> Vec<(u32, u32)> {
        let of = segment.of(group).iter();
        of.map(|entry| (entry.columns, entry.rows)).collect()
    };
    assert_eq!(rows(7), [(1, 30), (1, 30), (1, 10), (2, 20)]);
    assert_eq!(rows(4_000_000_000), [(1, 30)]);
    assert_eq!(rows(6), []);
    assert_eq!(rows(8), []);
    assert_eq!(segment.entries().len(), 5);
}

#[test]
fn an_index_takes_about_ten_bytes_a_block() {
    let (sim, fs, path) = disk();
    let rows = some_groups().remove(&7).unwrap();
    let groups: Groups = (0..500).map(|group| (group, rows[..20].to_vec())).collect();
    let summary = write(&fs, &path, FRESH, &groups, 30).unwrap().unwrap();
    let bytes = sim.read_all(&path);
    let at = bytes.len() - 132;
    let length = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
    assert!(length < 500 * 10, "{length} of {} bytes", summary.bytes);
}

#[test]
fn a_segment_without_blocks_is_none() {
    let (sim, fs, path) = disk();
    let made = write(&fs, &path, FRESH, &Groups::new(), 30).unwrap();
    assert_eq!(made, None);
    assert_eq!(sim.names(Path::new("/seg")), [""; 0]);
}

#[test]
#[should_panic(expected = "come in order")]
fn blocks_out_of_order_are_refused() {
    let (_, fs, path) = disk();
    let mut bytes = Vec::new();
    support::encode(
        &some_groups()[&7][..5],
        &mut codec::Scratch::default(),
        &mut bytes,
    );
    let mut writer = SegmentWriter::create(&fs, &path, Tier::Raw, Span::Fresh).unwrap();
    writer.push(8, &bytes, &mut std::iter::empty()).unwrap();
    writer.push(7, &bytes, &mut std::iter::empty()).unwrap();
}

#[test]
fn a_segment_stays_readable_after_it_was_unlinked() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let path = dir.path().join("00000001.seg");
    write(&fs, &path, FRESH, &some_groups(), 30).unwrap();
    let segment = open(&fs, &path).unwrap();
    fs.remove(&path).unwrap();
    assert_eq!(read(&segment), Ok(some_groups()));
}

/// Whether a damaged file is an error that names it, or what it says is right.
fn never_wrong(fs: &Arc<dyn Fs>, path: &Path, groups: &Groups) -> bool {
    let segment = match open(fs, path) {
        Ok(segment) => segment,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("/seg/00000001.seg.tmp"), "{text}");
            return true;
        }
    };
    let verified = segment.verify();
    match read(&segment) {
        Err(_) => {
            let text = verified.unwrap_err().to_string();
            assert!(text.contains("/seg/00000001.seg.tmp"), "{text}");
            assert!(text.contains("the block of group"), "{text}");
            true
        }
        Ok(read) => {
            assert_eq!(&read, groups);
            false
        }
    }
}

#[test]
fn any_flipped_bit_is_an_error_that_names_the_file() {
    let (sim, fs, path) = disk();
    let mut groups = some_groups();
    groups.get_mut(&7).unwrap().truncate(40);
    groups.insert(9, some_groups()[&7][..3].to_vec());
    write(&fs, &path, FRESH, &groups, 15).unwrap();
    for byte in 0..sim.read_all(&path).len() as u64 {
        let bit = u8::try_from(byte % 8).unwrap();
        sim.flip(&path, byte, bit);
        assert!(never_wrong(&fs, &path, &groups), "byte {byte}, bit {bit}");
        sim.flip(&path, byte, bit);
    }
    assert!(
        !never_wrong(&fs, &path, &groups),
        "flipped back it is whole"
    );
}

#[test]
fn a_file_cut_short_anywhere_is_damaged() {
    let (sim, fs, path) = disk();
    write(&fs, &path, FRESH, &some_groups(), 30).unwrap();
    let whole = sim.read_all(&path);
    for length in (0..whole.len()).rev() {
        sim.truncate(&path, length as u64);
        let error = open(&fs, &path).unwrap_err();
        assert!(matches!(error, SegmentError::Corrupt { .. }), "{error:?}");
    }
}

#[test]
fn a_block_in_the_place_of_another_is_damaged() {
    let (sim, fs, path) = disk();
    let rows = some_groups().remove(&7).unwrap();
    let mut later = rows[..20].to_vec();
    later.iter_mut().for_each(|row| row.at += 1_000);
    let groups = Groups::from([(1, rows[..20].to_vec()), (2, later)]);
    write(&fs, &path, FRESH, &groups, 30).unwrap();
    let entries = open(&fs, &path).unwrap().entries().to_vec();
    let mut bytes = sim.read_all(&path);
    let [a, b] = [entries[0], entries[1]];
    assert_eq!(a.length, b.length, "so that the index fits them still");
    let length = a.length as usize;
    let begin = usize::try_from(a.offset).unwrap();
    bytes[begin..begin + 2 * length].rotate_left(length);
    put(&fs, &path, &bytes);
    let error = open(&fs, &path).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("not what the index says"));
}

fn put(fs: &Arc<dyn Fs>, path: &Path, bytes: &[u8]) {
    fs.remove(path).unwrap();
    fs.create(path).unwrap().append(bytes).unwrap();
}

#[test]
fn a_newer_format_and_unknown_features_are_told_from_damage() {
    for (byte, value, what) in [(8, 2, "format 2"), (13, 1, "feature bits 0x100")] {
        let (sim, fs, path) = disk();
        write(&fs, &path, FRESH, &some_groups(), 30).unwrap();
        let mut bytes = sim.read_all(&path);
        bytes[byte] = value;
        let crc = crc32fast::hash(&bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        put(&fs, &path, &bytes);
        let error = open(&fs, &path).unwrap_err();
        assert!(matches!(error, SegmentError::Newer { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn an_operation_that_fails_fails_the_segment() {
    let operations = {
        let (sim, fs, path) = disk();
        let before = sim.operations();
        write(&fs, &path, FRESH, &some_groups(), 30).unwrap();
        sim.operations() - before
    };
    assert!(operations >= 3, "create, write and sync");
    for operation in 1..=operations {
        let (sim, fs, path) = disk();
        sim.fail_once_in(operation, ErrorKind::StorageFull);
        let error = write(&fs, &path, FRESH, &some_groups(), 30).unwrap_err();
        let SegmentError::Io {
            source, path: of, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!((source.kind(), of), (ErrorKind::StorageFull, &path));
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let (sim, fs, path) = disk();
    sim.set_capacity(Some(400));
    let error = write(&fs, &path, FRESH, &some_groups(), 30).unwrap_err();
    assert!(
        error.to_string().contains("cannot write the segment"),
        "{error}"
    );
}

#[test]
fn after_a_power_cut_a_file_that_was_finished_is_whole() {
    for seed in 0..50 {
        let (sim, fs, path) = disk();
        write(&fs, &path, FRESH, &some_groups(), 30).unwrap();
        fs.sync_dir(Path::new("/seg")).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(sim.after_power_cut(seed));
        assert_eq!(read(&open(&fs, &path).unwrap()), Ok(some_groups()));
    }
}

#[test]
fn after_a_power_cut_in_mid_write_a_file_is_whole_or_refused() {
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..200 {
        let (sim, fs, path) = disk();
        let before = sim.operations();
        sim.crash_in(3 + seed % 2);
        let made = write(&fs, &path, FRESH, &some_groups(), 30);
        let made = made.and_then(|_| {
            fs.sync_dir(Path::new("/seg"))
                .map_err(|source| SegmentError::Io {
                    doing: "sync",
                    path: path.clone(),
                    source,
                })
        });
        assert!(made.is_err() && sim.operations() > before);
        let fs: Arc<dyn Fs> = Arc::new(sim.after_power_cut(seed));
        match open(&fs, &path).map(|segment| read(&segment)) {
            Ok(Ok(groups)) => {
                assert_eq!(groups, some_groups());
                whole += 1;
            }
            _ => refused += 1,
        }
    }
    assert!(refused > 0 && whole > 0, "{whole} whole, {refused} refused");
}

/// The file of format 1 that every later version has to read. It is made anew
/// with `SOTP_GOLDEN=write`, which is right only for a new format.
#[test]
fn the_file_of_format_1_is_read_and_written_as_ever() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = dir.join("format-1.seg");
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let groups = some_groups();
    if std::env::var_os("SOTP_GOLDEN").is_some() {
        write(&fs, &golden, FRESH, &groups, 30).unwrap();
    }
    let segment = open(&fs, &golden).unwrap();
    segment.verify().unwrap();
    assert_eq!(read(&segment), Ok(groups.clone()));
    let other = tempfile::tempdir().unwrap();
    let again = other.path().join("again.seg");
    write(&fs, &again, FRESH, &groups, 30).unwrap();
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    // the blocks' bytes are codec's to keep, and it may find shorter ones
    assert_eq!(bytes(&again)[..20], bytes(&golden)[..20]);
}
