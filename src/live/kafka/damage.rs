//! Partitions with a batch whose checksum is wrong: found by children, read up to the batch, and
//! stopped there. See [`scout`] and [`suspects`](super::suspects).

use ninefold_engine::source::kafka::name;
use ninefold_engine::source::kafka::place::Obstacle;

use super::group::Id;
use super::outlet::Outlet;
use super::partition::{Partition, Step};
use super::scout::{self, Ended, Scout};
use super::{BATCH_PATIENCE, PAUSE_AFTER, Reader};

/// So many children have to end at one place until it is believed to be corrupt.
const CHILDREN_AT_ONE_PLACE: u32 = 3;

impl Reader {
    /// Notes what is fetched from now on, for whoever comes after this process.
    pub(super) fn note_reading(&mut self) {
        let names: Vec<String> = self.partitions.keys().map(|id| name(&id.0, id.1)).collect();
        self.suspects.note(&names);
    }

    /// Those of some places that this process would not survive to read.
    pub(super) fn look_ahead(&mut self, places: &[(Id, u64)]) -> Vec<Id> {
        let left = self.suspects.names();
        let is_suspect = |id: &Id| self.damaged.contains(id) || left.contains(&name(&id.0, id.1));
        let suspects: Vec<(Id, u64)> =
            places.iter().filter(|(id, _)| is_suspect(id)).cloned().collect();
        let corrupt = scout::corrupt(&self.settings, &suspects).unwrap_or_else(|error| {
            self.look.note_error(format!("nobody looks ahead for corrupt batches: {error:#}"));
            Vec::new()
        });
        for (id, _) in &suspects {
            if corrupt.contains(id) {
                self.damaged.insert(id.clone());
            } else {
                self.damaged.remove(id);
            }
            self.suspects.strike(&name(&id.0, id.1));
        }
        corrupt
    }

    /// Some batch is corrupt; the client does not say of which partition. Children find out.
    pub(super) fn find_corrupt(&mut self) -> anyhow::Result<()> {
        let live = self.ids(Partition::is_live);
        self.damaged.extend(live.iter().cloned());
        self.take_up_again(&live)
    }

    /// Takes what stands before a corrupt batch by way of children, and stops there.
    pub(super) fn read_up_to_damage(&mut self, id: &Id) -> anyhow::Result<()> {
        let mut children = 0;
        while children < CHILDREN_AT_ONE_PLACE {
            let Some(partition) = self.partitions.get(id) else { return Ok(()) };
            if self.is_stopping() {
                return Ok(());
            }
            let from = partition.fetch_from();
            let scout = Scout::records(&self.settings, id, from)?;
            match self.read_by(scout, id)? {
                Some(Ended::Corrupt) => {}
                // It is whole after all, or was restored.
                Some(Ended::Fine) => {
                    self.damaged.remove(id);
                    let from = self.partitions.get(id).map_or(from, Partition::fetch_from);
                    return self.fetch(&[(id.clone(), from)]);
                }
                None => return Ok(()),
            }
            let came = self.partitions.get(id).is_some_and(|one| one.fetch_from() > from);
            children = if came { 0 } else { children + 1 };
        }
        let Some(partition) = self.partitions.get(id) else { return Ok(()) };
        let (from, position) = (partition.fetch_from(), partition.position());
        let end = self.span(id)?.end;
        let next = scout::end_of_corrupt(&self.settings, id, from, end)?;
        if next <= position {
            // It was counted while it was whole: only the proof of the log, and the ids of the
            // dedupe window, are lost.
            self.damaged.remove(id);
            return self.fetch(&[(id.clone(), position)]);
        }
        let why = Obstacle::Corrupt { offset: position, next }.to_string();
        self.stop_partition(id, why, Some(position))
    }

    /// Takes what a child reads of a partition; how it ended, `None` where the partition has
    /// stopped meanwhile.
    fn read_by(&mut self, mut scout: Scout, id: &Id) -> anyhow::Result<Option<Ended>> {
        while let Some((offset, time_ms, payload)) = scout.next_record() {
            let Some(partition) = self.partitions.get_mut(id) else { return Ok(None) };
            match partition.take(offset, time_ms, &payload) {
                Step::Next => self.look.took(payload.len()),
                Step::Fetch(from) => {
                    self.assignments += 1;
                    partition.fetch(self.assignments, from);
                    // The next child begins there.
                    return Ok(Some(Ended::Corrupt));
                }
                Step::Stop(why) => {
                    let at = partition.position();
                    self.stop_partition(id, why, Some(at))?;
                    return Ok(None);
                }
            }
            self.hand_out(BATCH_PATIENCE);
            self.outlet.drain()?;
            while self.outlet.is_full() && !self.is_stopping() {
                self.outlet.drain_for(PAUSE_AFTER, |outlet: &Outlet| !outlet.is_full())?;
            }
        }
        scout.end().map(Some)
    }
}
