use std::{env, io::Write as _, process};

use super::*;

const NOW: u64 = 1_800_000_000;
const BOOT: BootId = [1; 16];
const OTHER_BOOT: BootId = [2; 16];

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("portcullis-uses-{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn open(&self, boot: BootId, now: u64) -> Uses {
        Uses::open(&self.file(), boot, 100_000, now).expect("a file")
    }

    fn file(&self) -> PathBuf {
        self.0.join("used")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn once(id: &str) -> Once<'_> {
    Once {
        issuer: "https://one",
        token_id: id,
        issued: NOW,
        leeway: 5,
        last: NOW + 600,
    }
}

#[test]
fn a_token_is_good_once_whoever_has_the_file_open() {
    let folder = Folder::new("once");
    let (one, other) = (folder.open(BOOT, NOW), folder.open(BOOT, NOW));
    assert_eq!(one.take(&once("a"), NOW), Ok(()));
    assert_eq!(one.take(&once("a"), NOW), Err(UseFault::Again));
    assert_eq!(other.take(&once("a"), NOW), Err(UseFault::Again));
    assert_eq!(other.take(&once("b"), NOW), Ok(()));
    assert_eq!(one.take(&once("b"), NOW), Err(UseFault::Again));
    let anothers = Once {
        issuer: "https://two",
        ..once("a")
    };
    assert_eq!(one.take(&anothers, NOW), Ok(()));
    drop((one, other));
    let again = folder.open(BOOT, NOW);
    assert_eq!(again.take(&once("a"), NOW), Err(UseFault::Again));
    assert_eq!(again.held(), (3, 100_000));
    let later = Once {
        last: NOW + 1_300,
        ..once("a")
    };
    assert_eq!(again.take(&later, NOW + 700), Ok(()), "it was over");
    // What is over itself may have been forgotten.
    let over = again.take(&once("z"), NOW + 700);
    assert_eq!(over, Err(UseFault::Unknown));
}

#[test]
fn of_many_threads_and_files_one_has_it() {
    let folder = Folder::new("race");
    let opened: Vec<Uses> = (0..3).map(|_| folder.open(BOOT, NOW)).collect();
    let firsts = thread::scope(|scope| {
        let take = |uses: &Uses| {
            let ids = (0..2_000).map(|id| id.to_string());
            ids.filter(|id| uses.take(&once(id), NOW).is_ok()).count()
        };
        let each = opened.iter().flat_map(|uses| [uses, uses]);
        let threads: Vec<_> = each.map(|uses| scope.spawn(move || take(uses))).collect();
        let counts = threads.into_iter().map(|it| it.join().expect("an end"));
        counts.sum::<usize>()
    });
    assert_eq!(firsts, 2_000);
}

#[test]
fn the_file_is_written_anew_and_other_processes_follow() {
    let folder = Folder::new("anew");
    let (one, other) = (folder.open(BOOT, NOW), folder.open(BOOT, NOW));
    let brief = |id: u64| Once {
        last: NOW + id / 100,
        ..once("")
    };
    let mut at_most = 0;
    for id in 0..60_000_u64 {
        let text = id.to_string();
        let it = Once {
            token_id: &text,
            ..brief(id)
        };
        let uses = if id % 7 == 0 { &other } else { &one };
        assert_eq!(uses.take(&it, NOW + id / 100), Ok(()), "{id}");
        at_most = at_most.max(fs::metadata(folder.file()).expect("a file").len());
    }
    assert!(at_most < 30_000 * RECORD as u64, "{at_most} bytes");
    let (held, _) = one.held();
    assert!(held < 2_000, "{held}");
    let last = "59999";
    let it = Once {
        token_id: last,
        ..brief(59_999)
    };
    for uses in [&one, &other] {
        assert_eq!(uses.take(&it, NOW + 599), Err(UseFault::Again));
    }
}

#[test]
fn what_a_crash_of_the_machine_may_have_lost_is_refused() {
    let folder = Folder::new("crash");
    assert_eq!(folder.open(BOOT, NOW).take(&once("a"), NOW), Ok(()));
    // Another boot, and nobody had stopped in order.
    let uses = folder.open(OTHER_BOOT, NOW + 100);
    assert_eq!(uses.unknown_before(), Some(NOW + 100));
    for (id, issued, expected) in [
        ("a", NOW, Err(UseFault::Unknown)),
        ("b", NOW + 100, Err(UseFault::Unknown)),
        // By a clock that is ahead.
        ("c", NOW + 105, Err(UseFault::Unknown)),
        ("d", NOW + 106, Ok(())),
    ] {
        let it = Once { issued, ..once(id) };
        assert_eq!(uses.take(&it, NOW + 110), expected, "{id}");
    }
    // That holds for the next process of this boot as well.
    let uses = folder.open(OTHER_BOOT, NOW + 200);
    assert_eq!(uses.unknown_before(), Some(NOW + 100));
    // And an orderly stop is nothing to be afraid of.
    uses.settle(NOW + 200).expect("settled");
    let uses = folder.open(BOOT, NOW + 300);
    assert_eq!(uses.unknown_before(), Some(NOW + 100));
    let it = Once {
        issued: NOW + 250,
        ..once("e")
    };
    assert_eq!(uses.take(&it, NOW + 300), Ok(()));
    let it = Once {
        issued: NOW + 106,
        ..once("d")
    };
    assert_eq!(uses.take(&it, NOW + 300), Err(UseFault::Again));
}

#[test]
fn a_file_that_was_settled_once_is_not_trusted_for_what_came_after() {
    let folder = Folder::new("settled");
    let uses = folder.open(BOOT, NOW);
    assert_eq!(uses.take(&once("a"), NOW), Ok(()));
    uses.settle(NOW).expect("settled");
    drop(uses);
    let on_disk = fs::read(folder.file()).expect("a file");
    // The next process of the same boot; the machine goes down before its uses reach the disk.
    let uses = folder.open(BOOT, NOW + 1);
    let begun = fs::read(folder.file()).expect("a file");
    assert_eq!(uses.take(&once("b"), NOW + 1), Ok(()));
    drop(uses);
    assert_eq!(begun.len(), on_disk.len());
    fs::write(folder.file(), &begun).expect("written");
    let uses = folder.open(OTHER_BOOT, NOW + 2);
    assert_eq!(uses.take(&once("b"), NOW + 2), Err(UseFault::Unknown));
    drop(uses);
    // Nor is one that lost all it had.
    fs::write(folder.file(), "").expect("written");
    let uses = folder.open(OTHER_BOOT, NOW + 3);
    assert_eq!(uses.unknown_before(), Some(NOW + 3));
}

#[test]
fn a_process_that_keeps_the_lock_keeps_nobody_waiting_for_long() {
    let folder = Folder::new("held");
    let uses = folder.open(BOOT, NOW);
    let other = options().open(folder.file().with_extension("lock"));
    let other = other.expect("a lock");
    let held = Exclusive::of(&other, AT_REST).expect("held");
    assert_eq!(uses.take(&once("a"), NOW), Err(UseFault::Failing));
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(uses.take(&once("a"), NOW), Err(UseFault::Failing));
    }
    assert!(began.elapsed() < IN_A_REQUEST * 50, "each waited anew");
    drop(held);
    while uses.take(&once("a"), NOW) == Err(UseFault::Failing) {
        thread::sleep(BETWEEN_TRIES);
    }
    assert_eq!(uses.take(&once("a"), NOW), Err(UseFault::Again));
}

#[test]
fn damage_makes_earlier_tokens_unknown_and_never_good() {
    let folder = Folder::new("damage");
    let uses = folder.open(BOOT, NOW);
    for id in ["a", "b", "c"] {
        assert_eq!(uses.take(&once(id), NOW), Ok(()));
    }
    drop(uses);
    let whole = fs::read(folder.file()).expect("a file");
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(folder.file(), &damaged).expect("written");
        let uses = folder.open(BOOT, NOW + 1);
        for id in ["a", "b", "c"] {
            let taken = uses.take(&once(id), NOW + 1);
            assert!(taken.is_err(), "byte {place}: {id} was good again");
        }
        let fresh = Once {
            issued: NOW + 10,
            ..once("d")
        };
        assert_eq!(uses.take(&fresh, NOW + 10), Ok(()), "byte {place}");
    }
    // A write that a kill broke off was never answered.
    for length in HEAD..whole.len() {
        fs::write(folder.file(), &whole[..length]).expect("written");
        let uses = folder.open(BOOT, NOW + 1);
        let kept = (length - HEAD) / RECORD;
        for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
            let taken = uses.take(&once(id), NOW + 1);
            assert_eq!(taken.is_err(), number < kept, "{length} bytes: {id}");
        }
    }
}

#[test]
fn a_full_set_and_a_full_disk_let_nobody_in() {
    let folder = Folder::new("full");
    let uses = Uses::open(&folder.file(), BOOT, 2, NOW).expect("a file");
    assert_eq!(uses.take(&once("a"), NOW), Ok(()));
    assert_eq!(uses.take(&once("b"), NOW), Ok(()));
    assert_eq!(uses.take(&once("c"), NOW), Err(UseFault::Full));
    assert_eq!(uses.take(&once("a"), NOW), Err(UseFault::Again));
    uses.bound(3);
    assert_eq!(uses.take(&once("c"), NOW), Ok(()));
    // A file that nothing can be written to.
    let reading = File::open(folder.file()).expect("a file");
    uses.kept().file = reading;
    uses.bound(10);
    assert_eq!(uses.take(&once("d"), NOW), Err(UseFault::Failing));
    assert_eq!(uses.take(&once("a"), NOW), Err(UseFault::Again));
}

#[test]
fn a_file_that_somebody_takes_away_is_made_again() {
    let folder = Folder::new("gone");
    let uses = folder.open(BOOT, NOW);
    assert_eq!(uses.take(&once("a"), NOW), Ok(()));
    fs::remove_file(folder.file()).expect("removed");
    assert_eq!(uses.take(&once("a"), NOW), Err(UseFault::Again));
    assert_eq!(uses.take(&once("b"), NOW), Ok(()));
    let again = folder.open(BOOT, NOW);
    assert_eq!(again.take(&once("a"), NOW), Err(UseFault::Again));
    // Cut off under a running process, it isn't believed.
    let mut file = File::create(folder.file()).expect("cut");
    file.write_all(b"x").expect("written");
    assert_eq!(uses.take(&once("c"), NOW), Err(UseFault::Failing));
}
