//! What other instances have done lately: which partitions they count, and who judges.
//!
//! Files have no group that hands them out. Of two instances that follow one file both count it,
//! one commits, and the other is fenced; then it stands by, for as long as it sees the first make
//! progress. After [`patience`] without any it takes the file up where the table stands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ninefold_engine::config::Config;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::follow::KAFKA;
use ninefold_engine::table::JUDGE;

use crate::states::lock;

/// How long an instance that makes no progress is waited for: three commits that do not come,
/// and the seconds that a commit may take.
pub fn patience(config: &Config) -> Duration {
    3 * Duration::from_millis(config.commit_interval_ms) + Duration::from_secs(3)
}

/// Partitions, and the judge, by when another instance has moved them last.
#[derive(Clone, Default)]
pub struct Rivals(Arc<Mutex<HashMap<String, Instant>>>);

impl Rivals {
    /// Takes note that another instance has moved a partition now.
    pub(super) fn saw(&self, name: &str) {
        lock(&self.0).insert(name.to_owned(), Instant::now());
    }

    /// Whether another instance has moved a partition lately.
    pub(super) fn is_counting(&self, name: &str) -> bool {
        lock(&self.0).contains_key(name)
    }

    /// Whether anybody else has done anything lately.
    pub(super) fn any(&self) -> bool {
        !lock(&self.0).is_empty()
    }

    /// Forgets what was longer ago than `patience`.
    pub(super) fn forget(&self, patience: Duration, pipeline: &mut Pipeline) {
        lock(&self.0).retain(|name, last| {
            let is_lately = last.elapsed() < patience;
            if !is_lately {
                pipeline.forget_owner(name);
            }
            is_lately
        });
    }

    /// The least-named partition 0 of Kafka that another instance has moved lately.
    fn least_zero(&self) -> Option<String> {
        lock(&self.0).keys().filter(|name| is_zero(name)).min().cloned()
    }
}

/// Whether a partition is the first one of a topic of Kafka.
fn is_zero(name: &str) -> bool {
    name.starts_with(KAFKA) && name.ends_with("/0")
}

/// Whether this instance should judge: it counts the least-named partition 0 of Kafka; without
/// Kafka, unless another one has judged lately. Where the table knows Kafka and we have no part
/// of it yet, a newcomer (`is_new`) waits for whoever has.
pub(super) fn should_judge(pipeline: &Pipeline, rivals: &Rivals, is_new: bool) -> bool {
    let ours = pipeline.owned().filter(|name| is_zero(name)).min();
    let theirs = rivals.least_zero();
    match (ours, theirs.as_deref()) {
        (Some(ours), Some(theirs)) => ours < theirs,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => {
            let in_group = pipeline.owned().any(|name| name.starts_with(KAFKA));
            let known = || pipeline.table().offsets().into_keys().any(|name| is_zero(&name));
            let waits = is_new && known();
            !in_group && !rivals.is_counting(JUDGE) && !waits
        }
    }
}
