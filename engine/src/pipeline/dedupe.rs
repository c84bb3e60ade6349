//! The dedupe window: which ids a partition carried in the bytes before.
//!
//! An event whose id stood within the last `window_bytes` bytes of its partition is a
//! duplicate. The window is defined in offsets, so that it depends on neither time nor batches;
//! nothing of it is stored: after a restart the window before the committed offset is read
//! again. Ids are kept as 128 bits of a hash.
//!
//! Memory is bounded by a number of ids: where the window holds more, the oldest are forgotten,
//! so that the window is shorter than it was meant to be, which is counted. The number is fixed
//! by the configuration, so that what is a duplicate still depends on the partition alone.

use std::collections::{HashMap, VecDeque};

use crate::state::block::{Block, IdSeen};

/// The ids of one partition.
pub struct DedupeWindow {
    window_bytes: u64,
    /// By id: the offset where it stood last.
    seen: HashMap<u128, u64, foldhash::fast::RandomState>,
    order: VecDeque<(u64, u128)>,
    ids_max: usize,
    /// How many ids were forgotten before the end of the window.
    forgotten: u64,
}

/// What an id takes at most, in bytes: an entry of the map at its least filled, one of the
/// queue with room to grow.
pub const ID_BYTES: usize = 128;

impl DedupeWindow {
    /// A window over so many bytes, with at most `ids_max` ids.
    pub fn new(window_bytes: u64, ids_max: usize) -> DedupeWindow {
        let (seen, order) = (HashMap::default(), VecDeque::new());
        DedupeWindow { window_bytes, seen, order, ids_max, forgotten: 0 }
    }

    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.order.len() * ID_BYTES
    }

    /// How many ids were forgotten before the end of the window.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Marks the duplicates of a block as dropped, and says how many there are.
    pub fn drop_duplicates(&mut self, block: &mut Block) -> u64 {
        let ids = std::mem::take(&mut block.ids);
        let duplicates = ids.iter().filter(|id| self.is_duplicate(id));
        let dropped = duplicates.map(|id| block.drop_record(id)).count() as u64;
        block.ids = ids;
        dropped
    }

    /// Whether an id stood in the window before it; from then on it is in the window itself.
    fn is_duplicate(&mut self, id: &IdSeen) -> bool {
        self.forget(id.offset.saturating_sub(self.window_bytes));
        self.order.push_back((id.offset, id.hash));
        let is_duplicate = self.seen.insert(id.hash, id.offset).is_some();
        if self.order.len() > self.ids_max {
            self.forgotten += u64::from(self.forget_first());
        }
        is_duplicate
    }

    fn forget(&mut self, before: u64) {
        while self.order.front().is_some_and(|(offset, _)| *offset < before) {
            self.forget_first();
        }
    }

    /// Forgets what stood first; whether its id has not stood again since.
    fn forget_first(&mut self) -> bool {
        let Some((offset, hash)) = self.order.pop_front() else { return false };
        let is_last = self.seen.get(&hash) == Some(&offset);
        if is_last {
            self.seen.remove(&hash);
        }
        is_last
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
        let mut window = DedupeWindow::new(100, 1_000);
        assert!(!window.is_duplicate(&id(1, 0)));
        assert!(window.is_duplicate(&id(1, 100)), "exactly a window later");
        assert!(window.is_duplicate(&id(1, 150)), "a duplicate extends the window");
        assert!(!window.is_duplicate(&id(1, 251)), "more than a window later");
        assert!(!window.is_duplicate(&id(2, 251)));
        assert_eq!(window.forgotten(), 0);
    }

    #[test]
    fn more_ids_than_there_is_room_for_shorten_the_window() {
        let mut window = DedupeWindow::new(1_000, 3);
        assert!((1..=4).all(|hash| !window.is_duplicate(&id(hash, hash as u64))));
        assert_eq!(window.forgotten(), 1);
        assert!(window.is_duplicate(&id(2, 5)));
        assert!(!window.is_duplicate(&id(1, 6)), "it was forgotten");
        assert_eq!((window.forgotten(), window.order.len()), (2, 3));
        assert!(window.bytes() > 0);
    }
}
