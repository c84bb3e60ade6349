//! `ninefold token`: a new bearer token, and the table that makes it known.

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use ninefold_engine::config::{Config, token_hash};

use crate::Usage;

/// How many random bytes a token has: 256 bits cannot be guessed.
const RANDOM_BYTES: usize = 32;

/// Prints a new token and its table.
///
/// # Errors
/// Name or role are none; there is no randomness to be had.
pub fn token(name: &str, role: &str) -> anyhow::Result<ExitCode> {
    let mut random = [0; RANDOM_BYTES];
    let source = "/dev/urandom";
    let read = File::open(source).and_then(|mut file| file.read_exact(&mut random));
    read.with_context(|| format!("cannot read {source}"))?;
    // A prefix, so that scanners for secrets know one that was committed by mistake.
    let token = format!("ninefold_{}", hex(&random));
    let table = format!(
        "[[api.token]]\nname = \"{}\"\nrole = \"{}\"\nsha256 = \"{}\"\n",
        name.escape_default(),
        role.escape_default(),
        hex(&token_hash(token.as_bytes())),
    );
    if let Err(problems) = Config::parse(&table, "token") {
        let problem = problems.list().first().map(ToString::to_string).unwrap_or_default();
        return Err(Usage(problem).into());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{token}\n\n{table}")?;
    eprintln!(
        "ninefold: the first line is the token, shown this once; the table is for the configuration"
    );
    Ok(ExitCode::SUCCESS)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
