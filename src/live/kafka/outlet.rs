//! The way from the thread that polls to the loop: messages in their order, never blocking.
//!
//! The loop takes what it can; what it cannot take yet is held here, and the thread sees that
//! nothing more is fetched meanwhile.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::super::Message;

/// So many messages may be held before fetching pauses.
const HELD_MAX: usize = 16;

/// How long to wait before the loop is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Messages on their way.
pub struct Outlet {
    sender: SyncSender<Message>,
    held: VecDeque<Message>,
}

impl Outlet {
    /// One that leads to the loop.
    pub fn new(sender: SyncSender<Message>) -> Outlet {
        Outlet { sender, held: VecDeque::new() }
    }

    /// Takes a message; [`Outlet::drain`] sends it.
    pub fn push(&mut self, message: Message) {
        self.held.push_back(message);
    }

    /// Whether nothing more should be fetched.
    pub fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }

    /// Sends what the loop takes at once.
    ///
    /// # Errors
    /// The loop has ended.
    pub fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(message) = self.held.pop_front() {
            match self.sender.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    self.held.push_front(message);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Err(anyhow!("the loop has ended")),
            }
        }
        Ok(())
    }

    /// Sends until little is held, or the time is over.
    ///
    /// # Errors
    /// The loop has ended.
    pub fn drain_for(
        &mut self,
        limit: Duration,
        is_enough: fn(&Outlet) -> bool,
    ) -> anyhow::Result<()> {
        let since = Instant::now();
        self.drain()?;
        while !is_enough(self) && since.elapsed() < limit {
            std::thread::park_timeout(RETRY_INTERVAL);
            self.drain()?;
        }
        Ok(())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Drops what is held of these partitions, by name.
    pub fn forget(&mut self, names: &[String]) {
        self.held.retain(|message| match message {
            Message::Begin(begin) => !names.contains(&begin.partition),
            Message::Chunk { partition, .. } | Message::Remember { partition, .. } => {
                !names.contains(partition)
            }
            _ => true,
        });
    }
}
