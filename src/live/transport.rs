//! How a message gets to a receiver: by HTTP, as a record of a topic, or into a program.

use std::time::Duration;

use ninefold_engine::config::{Destination, Receiver};
use ninefold_engine::notify::address::AddressRule;
use ninefold_engine::notify::message::Message;
use ninefold_engine::notify::outbox::Failure;
use ninefold_engine::notify::{command, send::Sender};

/// The way to one receiver.
pub enum Transport {
    /// HTTP.
    Http(Sender),
    /// A topic.
    #[cfg(feature = "kafka")]
    Topic(Box<super::topic::Topic>),
    /// A program, and how long it may take.
    Command(Vec<String>, Duration),
}

impl Transport {
    /// The way to `receiver`; nothing is asked of it yet.
    ///
    /// # Errors
    /// A secret is not where the configuration says, the client library refuses its settings, or
    /// this ninefold was built without it.
    pub fn to(receiver: &Receiver) -> anyhow::Result<Transport> {
        let limit = Duration::from_millis(receiver.timeout_ms);
        Ok(match &receiver.to {
            Destination::Http { url, allow } => {
                Transport::Http(Sender::new(url, AddressRule { allow: allow.clone() }, limit))
            }
            #[cfg(feature = "kafka")]
            Destination::Kafka { brokers, topic, options } => {
                let topic = super::topic::Topic::new(brokers, topic, options, limit)?;
                Transport::Topic(Box::new(topic))
            }
            #[cfg(not(feature = "kafka"))]
            Destination::Kafka { .. } => {
                anyhow::bail!("this ninefold was built without the feature kafka")
            }
            Destination::Command(argv) => Transport::Command(argv.clone(), limit),
        })
    }

    /// Sends a message and waits until it was taken.
    ///
    /// # Errors
    /// It was not taken: who is to blame, and why.
    pub fn send(&self, message: &Message) -> Result<(), (Failure, String)> {
        match self {
            Transport::Http(sender) => {
                sender.send(message).map_err(|error| (error.failure(), error.to_string()))
            }
            #[cfg(feature = "kafka")]
            Transport::Topic(topic) => {
                topic.send(message).map_err(|error| (Failure::Receiver(0), error.to_string()))
            }
            // A program that fails may do so for what this message says: others are tried.
            Transport::Command(argv, limit) => command::run(argv, message, *limit)
                .map_err(|error| (Failure::Message, error.to_string())),
        }
    }
}
