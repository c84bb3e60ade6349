//! The dedupe window: which ids a partition carried in the bytes before.
//!
//! An event whose id stood within the last `window_bytes` bytes of its partition is a
//! duplicate. The window is defined in offsets, so that it depends on neither time nor batches;
//! nothing of it is stored: after a restart the window before the committed offset is read
//! again. Ids are kept as 128 bits of a hash.

use std::collections::{HashMap, VecDeque};

use crate::state::block::{Block, IdSeen};

/// The ids of one partition.
pub struct DedupeWindow {
    window_bytes: u64,
    /// By id: the offset where it stood last.
    seen: HashMap<u128, u64, foldhash::fast::RandomState>,
    order: VecDeque<(u64, u128)>,
}

impl DedupeWindow {
    /// A window over so many bytes.
    pub fn new(window_bytes: u64) -> DedupeWindow {
        DedupeWindow { window_bytes, seen: HashMap::default(), order: VecDeque::new() }
    }

    /// Marks the duplicates of a block as dropped, and says how many there are.
    pub fn drop_duplicates(&mut self, block: &mut Block) -> u64 {
        let mut dropped = 0;
        for id in &block.ids {
            if self.is_duplicate(id) {
                let part = &mut block.parts[usize::from(id.shard)];
                part.records[id.record as usize].count = 0;
                dropped += 1;
            }
        }
        dropped
    }

    /// Whether an id stood in the window before it; from then on it is in the window itself.
    fn is_duplicate(&mut self, id: &IdSeen) -> bool {
        self.forget(id.offset.saturating_sub(self.window_bytes));
        self.order.push_back((id.offset, id.hash));
        self.seen.insert(id.hash, id.offset).is_some()
    }

    fn forget(&mut self, before: u64) {
        while let Some((offset, hash)) = self.order.front().copied()
            && offset < before
        {
            self.order.pop_front();
            if self.seen.get(&hash) == Some(&offset) {
                self.seen.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hash: u128, offset: u64) -> IdSeen {
        IdSeen { hash, offset, shard: 0, record: 0 }
    }

    #[test]
    fn an_id_is_a_duplicate_within_the_window_only() {
        let mut window = DedupeWindow::new(100);
        assert!(!window.is_duplicate(&id(1, 0)));
        assert!(window.is_duplicate(&id(1, 100)), "exactly a window later");
        assert!(window.is_duplicate(&id(1, 150)), "a duplicate extends the window");
        assert!(!window.is_duplicate(&id(1, 251)), "more than a window later");
        assert!(!window.is_duplicate(&id(2, 251)));
    }
}
