//! The program under test, used as a person does: a folder, commands in it, what they say.
//!
//! A [`Session`] is a temporary folder; [`Session::run`] runs one command line of `ninefold`
//! there and waits for its end. Words are split at spaces, so a test reads like a terminal.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to work in, removed at the end.
pub struct Session {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub line: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Session {
    pub fn new() -> Session {
        Session { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A session in whose folder copies of the event fixtures stand.
    pub fn with_events() -> Session {
        let session = Session::new();
        for name in ["hand-made.ndjson", "generated.ndjson"] {
            session.write(name, &events(name));
        }
        session
    }

    /// A session with the event fixtures counted into its table `d`.
    pub fn with_table() -> Session {
        let session = Session::with_events();
        session.run("replay hand-made.ndjson generated.ndjson --data d").ok();
        session
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the folder can be written");
        path
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program in this folder, not started yet.
    pub fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninefold"));
        command.args(words).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs `ninefold LINE`.
    pub fn run(&self, line: &str) -> Ended {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `ninefold` with words that may hold spaces.
    pub fn run_words(&self, words: &[&str]) -> Ended {
        let output = self.command(words).output().expect("the program starts");
        Ended::of(words.join(" "), output)
    }

    /// Runs `ninefold LINE` with `input` piped into it.
    pub fn pipe(&self, input: &[u8], line: &str) -> Ended {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut child =
            self.command(&words).stdin(Stdio::piped()).spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        // It may end before it has read everything: then the write fails, as it should.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("the program ends");
        writer.join().expect("the writer does not panic");
        Ended::of(line.to_owned(), output)
    }
}

impl Ended {
    pub fn of(line: String, output: std::process::Output) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Ended { line, code: output.status.code(), stdout, stderr }
    }

    /// What it printed, of a command that went well and had nothing to complain of.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        assert_eq!(self.stderr, "", "{self}");
        self.stdout
    }

    /// As [`Ended::ok`], where standard error may say how it went.
    pub fn ok_with_notes(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// What it printed, as JSON.
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Of a command that failed: nothing was printed, no panic, and standard error says all of
    /// `parts`.
    pub fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.stdout, "", "nothing but answers on standard output: {self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self}");
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ended { line, code, stdout, stderr } = self;
        writeln!(formatter, "ninefold {line}: exit {code:?}\n-- stdout\n{stdout}")?;
        writeln!(formatter, "-- stderr\n{stderr}")
    }
}

/// A file of the repository.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// The lines of `fixtures/events/NAME`.
pub fn events(name: &str) -> Vec<u8> {
    let path = fixture("events").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
