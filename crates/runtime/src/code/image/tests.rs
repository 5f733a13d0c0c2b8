//! Layers: applied as they say, and never to anything outside of the root.

use std::os::unix::fs::PermissionsExt;

use super::layer::Root;
use super::*;

enum Entry<'a> {
    File(&'a str, &'a str),
    Mode(&'a str, u32),
    Directory(&'a str),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
}

/// A tar of these, their names as they are: the builder itself would refuse some.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let mut contents = "";
        let (name, to) = match entry {
            Entry::File(name, text) => {
                contents = text;
                header.set_entry_type(tar::EntryType::Regular);
                (name, "")
            }
            Entry::Mode(name, mode) => {
                header.set_mode(*mode);
                header.set_entry_type(tar::EntryType::Regular);
                (name, "")
            }
            Entry::Directory(name) => {
                header.set_mode(0o755);
                header.set_entry_type(tar::EntryType::Directory);
                (name, "")
            }
            Entry::Link(name, to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                (name, *to)
            }
            Entry::Hard(name, to) => {
                header.set_entry_type(tar::EntryType::Link);
                (name, *to)
            }
        };
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
        header.set_size(contents.len() as u64);
        header.set_cksum();
        builder.append(&header, contents.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

struct House {
    directory: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/file"), "outside").unwrap();
        Self { directory }
    }

    fn apply(&self, layers: &[&[Entry<'_>]]) -> Result<(), StartError> {
        let path = self.directory.path().join("root");
        let _ = fs::remove_dir_all(&path);
        let mut root = Root::make(&path, 1 << 20)?;
        for layer in layers {
            root.apply(&mut &tar(layer)[..])?;
        }
        root.finish()
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.directory.path().join("root").join(path)).ok()
    }

    fn assert_outside_is_whole(&self) {
        assert_eq!(fs::read_to_string(self.directory.path().join("outside/file")).unwrap(), "outside");
        assert_eq!(fs::read_dir(self.directory.path().join("outside")).unwrap().count(), 1);
    }
}

#[test]
fn later_layers_change_and_hide_what_earlier_ones_have() {
    use Entry::{Directory, File, Hard, Link, Mode};
    let house = House::new();
    house
        .apply(&[
            &[
                File("a/one", "1"),
                File("a/two", "2"),
                File("b/deep/old", "old"),
                File("c", "file"),
                Directory("d"),
                File("d/x", "x"),
                Link("l", "a"),
                Directory("dev"),
                File("dev/strange", ""),
                Link("tmp", "/outside"),
            ],
            &[
                File("a/.wh.one", ""),
                File("a/two", "zwei"),
                File("b/new", "new"),
                File("b/.wh..wh..opq", ""),
                Directory("c"),
                File("c/now", "a directory"),
                File("d", "now a file"),
                File("l/three", "through a link"),
                Hard("a/same", "a/two"),
                Mode("setuid", 0o6755),
                File("./dot/./file", "dot"),
            ],
        ])
        .unwrap();
    for (path, text) in [
        ("a/one", None),
        ("a/two", Some("zwei")),
        ("b/deep/old", None),
        ("b/new", Some("new")),
        ("c/now", Some("a directory")),
        ("d", Some("now a file")),
        ("a/three", Some("through a link")),
        ("a/same", Some("zwei")),
        ("dot/file", Some("dot")),
    ] {
        assert_eq!(house.read(path).as_deref(), text, "{path}");
    }
    let root = house.directory.path().join("root");
    assert_eq!(fs::metadata(root.join("setuid")).unwrap().permissions().mode() & 0o7777, 0o755);
    for name in ["dev", "proc", "sys", "tmp"] {
        assert!(fs::symlink_metadata(root.join(name)).unwrap().is_dir(), "{name}");
    }
    house.assert_outside_is_whole();
}

#[test]
fn nothing_leads_out_of_the_root() {
    use Entry::{Directory, File, Hard, Link};
    let house = House::new();
    let outside = house.directory.path().join("outside");
    let outside = outside.to_str().unwrap();
    for (layers, refused) in [
        (vec![File("../outside/file", "in")], true),
        (vec![File("a/../../outside/file", "in")], true),
        // An absolute name is one in the root.
        (vec![File("/outside/file", "in")], false),
        // So is what a link leads to, whatever it says.
        (vec![Link("out", "../outside"), File("out/file", "in")], false),
        (vec![Link("out", outside), File("out/file", "in")], false),
        (vec![Link("out", outside), File("out/.wh.file", "")], false),
        (vec![Link("out", outside), File("out/.wh..wh..opq", "")], false),
        (vec![Link("file", "../outside/file"), File("file", "in")], false),
        (vec![Hard("hard", "../outside/file")], true),
        (vec![Link("out", "../outside"), Hard("hard", "out/file")], true),
        (vec![Link("etc", "../outside"), File("x", "")], false),
        (vec![Directory("etc"), Link("etc/hosts", "../../outside/file")], false),
        (vec![File(".wh...", "")], true),
        (vec![File("a/.wh.", "")], true),
        (vec![Link("loop", "loop"), File("loop/file", "in")], true),
        (vec![Link("p", "/proc/self/root"), File("p/tmp/hawker-image-test", "in")], false),
    ] {
        let result = house.apply(&[&layers]);
        house.assert_outside_is_whole();
        if refused {
            assert!(matches!(result, Err(StartError::Code(_))), "{result:?}");
        }
    }
    assert!(!Path::new("/tmp/hawker-image-test").exists());
    let large = "x".repeat((1 << 20) + 1);
    let result = house.apply(&[&[File("large", &large)]]);
    assert!(
        matches!(&result, Err(StartError::Code(message)) if message.contains("larger than")),
        "{result:?}"
    );
}

#[test]
fn what_a_function_says_goes_before_what_its_image_says() {
    let image = ContainerImage {
        entrypoint: vec!["/start".into()],
        command: vec!["app.handler".into()],
        environment: vec!["A=b=c".into(), "broken".into()],
        working_directory: "/work".into(),
    };
    let own = ImageConfig::default();
    assert_eq!(
        image.argv(&own),
        (vec!["/start".to_owned(), "app.handler".to_owned()], Some("app.handler".to_owned()))
    );
    assert_eq!(image.working_directory(&own), "/work");
    assert_eq!(image.environment().collect::<Vec<_>>(), [("A", "b=c")]);
    let own = ImageConfig {
        entry_point: vec!["/other".into(), "-x".into()],
        command: Vec::new(),
        working_directory: Some("/else".into()),
    };
    assert_eq!(image.argv(&own).0, ["/other", "-x", "app.handler"]);
    assert_eq!(image.working_directory(&own), "/else");
    let nothing: ContainerImage = serde_json::from_str("{\"Entrypoint\":null,\"Env\":null}").unwrap();
    assert_eq!(nothing.argv(&ImageConfig::default()).0, Vec::<String>::new());
    assert_eq!(nothing.working_directory(&ImageConfig::default()), "/");
}
