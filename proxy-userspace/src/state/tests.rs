use super::*;

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{name}-{}", std::process::id()))
}

fn stored() -> Stored {
    Stored {
        trusted: false,
        added_ms: 5,
        ending: None,
        reason: Some("flood".to_owned()),
        forced: false,
    }
}

fn entry(prefix: &str, stored: Option<Stored>) -> Batch {
    let prefix = prefix.parse().expect("a prefix");
    Batch {
        entries: vec![("manual".to_owned(), prefix, stored)],
        ..Batch::default()
    }
}

fn open(directory: &Path) -> (State, Found) {
    let (state, found, aside) = State::open(directory).expect("a state");
    assert_eq!(aside, None);
    (state, found)
}

#[test]
fn entries_survive_and_a_second_daemon_is_refused_by_name() {
    let directory = folder("state");
    let (mut state, _) = open(&directory);
    for prefix in ["192.0.2.1/32", "192.0.2.2/32"] {
        state.commit(entry(prefix, Some(stored()))).expect("room");
    }
    state.commit(entry("192.0.2.1/32", None)).expect("room");
    let error = State::open(&directory).expect_err("in use").to_string();
    assert!(error.contains("another portcullis is running"), "{error}");
    drop(state);
    let (_, found) = open(&directory);
    let kept = "192.0.2.2/32".parse().expect("a prefix");
    assert_eq!(found.entries, [("manual".to_owned(), kept, Some(stored()))]);
    fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn a_content_takes_the_place_of_its_lists_entries_and_is_changed_by_later_ones() {
    let directory = folder("state-content");
    let (mut state, _) = open(&directory);
    let note = stored();
    let host = |last: u8| IpNet::from(std::net::IpAddr::from([192, 0, 2, last]));
    let content = Content::collect([(host(1), &note, 1), (host(2), &note, 2)]);
    state
        .commit(entry("192.0.2.9/32", Some(stored())))
        .expect("room");
    let whole = |content: &Content| Batch {
        contents: vec![("manual".to_owned(), Some(content.encode()))],
        ..Batch::default()
    };
    state.commit(whole(&content)).expect("room");
    state.commit(entry("192.0.2.1/32", None)).expect("room");
    drop(state);
    let (mut state, found) = open(&directory);
    assert_eq!(found.contents, [("manual".to_owned(), content)]);
    assert_eq!(found.entries, [("manual".to_owned(), host(1), None)]);
    let gone = Batch {
        contents: vec![("manual".to_owned(), None)],
        ..Batch::default()
    };
    state.commit(gone).expect("room");
    drop(state);
    let (_, found) = open(&directory);
    assert!(found.contents.is_empty() && found.entries.is_empty());
    fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn documents_are_kept_by_kind() {
    let directory = folder("state-documents");
    let (mut state, _) = open(&directory);
    let name = || "a".to_owned();
    for document in [
        Document::put("feed", name(), b"1".to_vec()),
        Document::put("pending", name(), b"2".to_vec()),
        Document::remove("feed", name()),
    ] {
        let batch = Batch {
            documents: vec![document],
            ..Batch::default()
        };
        state.commit(batch).expect("room");
    }
    assert!(state.documents("feed").expect("read").is_empty());
    let pending = state.documents("pending").expect("read");
    assert_eq!(pending, [("a".to_owned(), b"2".to_vec())]);
    drop(state);
    fs::remove_dir_all(directory).expect("removed");
}
