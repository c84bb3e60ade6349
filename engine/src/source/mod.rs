//! Sources: replayable logs of partitions, read as chunks of whole lines with their offsets.
//!
//! A source knows nothing of lines' meaning: it hands out bytes and says where they stood.

pub mod chunk;
pub mod file;
pub mod follow;
pub mod guard;
