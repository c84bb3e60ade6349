//! A program as a receiver: run without a shell, told by its standard input.
//!
//! It gets the message as its standard input and succeeds with exit code 0. It is bounded: what
//! it prints is kept to a few hundred bytes of standard error, and when its time is over it is
//! killed with every process of its group. Of our environment it sees `PATH` alone, since ours
//! may hold secrets.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::message::Message;

/// How much of its standard error is kept: enough to say why it fails.
const ERROR_BYTES_MAX: u64 = 512;

/// How often it is looked whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long what it has left behind may hold its standard error open after it has ended.
const LINGER: Duration = Duration::from_millis(100);

/// Why a program was not told.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be run.
    #[error("{program} cannot be run: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It said that it failed.
    #[error("{program} ended with {status}: {error}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The begin of its standard error.
        error: String,
    },
    /// It took too long.
    #[error("{program} was killed after {} s", limit.as_secs_f64())]
    Late {
        /// Which.
        program: String,
        /// How long it may take.
        limit: Duration,
    },
}

/// Runs `argv` (a program and its arguments) with the message as its standard input.
///
/// # Errors
/// It cannot be run, fails, or takes longer than `limit`.
pub fn run(argv: &[String], message: &Message, limit: Duration) -> Result<(), CommandError> {
    let (program, arguments) = argv.split_first().expect("the configuration names a program");
    let program = program.clone();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(arguments).env_clear().env("PATH", path).process_group(0);
    command.env("NINEFOLD_IDEMPOTENCY_KEY", &message.idempotency_key);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let since = Instant::now();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => return Err(CommandError::Start { program, source }),
    };
    let (mut stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let body = message.body.clone();
    // Threads of their own: it may neither read nor end, and then is killed, which ends them.
    std::thread::spawn(move || {
        // Who does not want the message may still succeed.
        let _ = stdin.take().map(|mut stdin| stdin.write_all(body.as_bytes()));
    });
    let (said, says) = channel();
    std::thread::spawn(move || {
        let Some(mut stderr) = stderr else { return };
        let mut begin = Vec::new();
        let _ = stderr.by_ref().take(ERROR_BYTES_MAX).read_to_end(&mut begin);
        let _ = said.send(begin);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    });
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let begin = says.recv_timeout(LINGER).unwrap_or_default();
                let error = String::from_utf8_lossy(&begin).trim().escape_debug().to_string();
                return Err(CommandError::Failed { program, status, error });
            }
            Ok(None) if since.elapsed() < limit => std::thread::park_timeout(LOOK_INTERVAL),
            Ok(None) => {
                kill_group(&mut child);
                return Err(CommandError::Late { program, limit });
            }
            Err(source) => {
                kill_group(&mut child);
                return Err(CommandError::Start { program, source });
            }
        }
    }
}

/// Kills the child with its whole group. The standard library kills processes alone, so the
/// group is left to `kill`; where there is none, the child dies at least.
fn kill_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let mut kill = Command::new("kill");
    kill.args(["-KILL", "--", &group]).stdin(Stdio::null());
    let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message {
            path: "",
            headers: Vec::new(),
            content_type: super::super::template::JSON.to_owned(),
            idempotency_key: "i-firing".to_owned(),
            body: body.to_owned(),
        }
    }

    fn shell(script: &str, limit: Duration) -> Result<(), CommandError> {
        let argv = ["sh", "-c", script].map(str::to_owned);
        run(&argv, &message("{\"state\":\"firing\"}"), limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_is_told_by_its_standard_input_and_by_no_other_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("told");
        let script = format!("cat > {0}; env >> {0}", path.display());
        shell(&script, LONG).unwrap();
        let told = std::fs::read_to_string(&path).unwrap();
        assert!(told.starts_with("{\"state\":\"firing\"}"), "{told}");
        assert!(told.contains("NINEFOLD_IDEMPOTENCY_KEY=i-firing"), "{told}");
        assert!(!told.contains("CARGO"), "our environment is not its business: {told}");
        // No shell of ours: an argument stays what it is.
        let argv = ["test", "$(id)", "=", "$(id)"].map(str::to_owned);
        run(&argv, &message(""), LONG).unwrap();
    }

    #[test]
    fn one_that_fails_says_why_in_a_few_words() {
        let error = shell("yes out; yes err | head -c 1000000 >&2; exit 3", Duration::ZERO);
        assert!(matches!(error, Err(CommandError::Late { .. })), "{error:?}");
        let error = shell("head -c 1000000 /dev/zero; echo no such channel >&2; exit 3", LONG);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("exit status: 3: no such channel"), "{text}");
        let error = shell("yes | head -c 1000000 >&2; exit 4", LONG).unwrap_err().to_string();
        assert!(error.len() < 2_000 && error.contains("exit status: 4"), "{error}");
        let argv = ["/no/such/program".to_owned()];
        let error = run(&argv, &message(""), LONG).unwrap_err().to_string();
        assert!(error.contains("cannot be run"), "{error}");
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", path.display());
        let limit = Duration::from_millis(500);
        let mut error = shell(&script, limit);
        // On a loaded machine the script may not have come so far.
        while !path.exists() || std::fs::read_to_string(&path).unwrap().is_empty() {
            error = shell(&script, limit);
        }
        assert!(matches!(error, Err(CommandError::Late { .. })), "{error:?}");
        let pid = std::fs::read_to_string(&path).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let is_dead = || {
            // Gone, or waiting for somebody to take note of it.
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        };
        let since = Instant::now();
        while !is_dead() && since.elapsed() < Duration::from_secs(30) {
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        assert!(is_dead(), "its child {pid} lives on");
    }
}
