//! What commands say of a [`World`].

use std::process::{Command, Output};

use serde_json::Value;

use crate::world::World;

#[allow(dead_code, reason = "several tests include this module and each uses a part of it")]
impl World {
    /// Runs a command on the table, with the configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninefold"));
        command.args(arguments).arg("--data").arg(self.data()).arg("-c").arg(&self.config);
        command.output().expect("the program starts")
    }

    /// What a command says as JSON, and its exit code.
    pub fn ask(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self.command(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let answer = serde_json::from_slice(&output.stdout);
        (output.status.code(), answer.unwrap_or_else(|error| panic!("{error}: {said}")))
    }

    /// The table holds what its topics say, by the program's own recount.
    pub fn verify(&self) {
        let (code, verdict) = self.ask(&["verify"]);
        assert_eq!((code, &verdict["equal"]), (Some(0), &Value::Bool(true)), "{verdict:#}");
        assert!(verdict["ranges_compared"].as_u64() > Some(0), "{verdict:#}");
    }
}
