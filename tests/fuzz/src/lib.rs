//! What the fuzz targets call. `tests/fuzz_corpus.rs` compiles the same modules on stable and
//! replays the corpus, so that a target never rots.

#[allow(dead_code, reason = "a target uses a part of it")]
#[path = "../../../api/src/arguments.rs"]
mod arguments;
#[allow(dead_code, reason = "a target uses a part of it")]
#[path = "../../../api/src/problem.rs"]
mod problem;
#[path = "../../common/recount.rs"]
mod recount;
pub mod targets;
