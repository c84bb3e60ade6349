//! The listener: connections under a limit, TLS where there is a certificate, time-outs for who
//! is slow, and an end within a limit.
//!
//! HTTP/1.1 alone, also over TLS. TLS is rustls with ring: versions 1.2 and 1.3.
//!
//! Invariants:
//! - No more connections are open than [`Listening::connections_max`]; the others wait in the
//!   queue of the system, without memory or a file descriptor of ours.
//! - A connection that is opening (its TLS handshake, the headers of a request) or that is idle
//!   ends after [`Listening::header_timeout`]; until then it holds 64 KiB of headers at most.
//! - A certificate that cannot be used changes nothing: the one before stays.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{Extension, Router};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{AddrListener, Address, Handle, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::stream::Closing;

/// How long open connections may take to end once the shutdown has begun.
const DRAIN: Duration = Duration::from_secs(5);

/// What a connection may hold of a request's head: twice what the guard takes of headers, so
/// that a request somewhat above that is still told why.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How connections are taken.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Speaks TLS with this certificate; `None` by default: in the clear.
    pub tls: Option<Tls>,
    /// How long the TLS handshake and the headers of a request may take, and how long a
    /// connection may be idle: 30 seconds.
    pub header_timeout: Duration,
    /// How many connections may be open at once: 1,024.
    pub connections_max: usize,
}

impl Default for Listening {
    fn default() -> Self {
        Listening { tls: None, header_timeout: Duration::from_secs(30), connections_max: 1_024 }
    }
}

/// A certificate with its key, which can be exchanged while it is used; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Tls(RustlsConfig);

impl Tls {
    /// Takes a chain of certificates, the server's own first, and its private key, both PEM.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not belong together.
    pub async fn from_pem(certificate: Vec<u8>, key: Vec<u8>) -> io::Result<Tls> {
        let config = RustlsConfig::from_pem(certificate, key).await?;
        let mut http1 = (*config.get_inner()).clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.reload_from_config(Arc::new(http1));
        Ok(Tls(config))
    }

    /// Takes others in their place, for the connections that come; those that are open go on.
    ///
    /// # Errors
    /// As [`Tls::from_pem`]; then nothing changes.
    pub async fn replace(&self, certificate: Vec<u8>, key: Vec<u8>) -> io::Result<()> {
        let Tls(config) = Tls::from_pem(certificate, key).await?;
        self.0.reload_from_config(config.get_inner());
        Ok(())
    }
}

/// Serves `router` on `listener` until `shutdown` is ready, then ends the streams, lets the
/// requests under way finish, and returns; connections still open after five seconds are cut.
///
/// # Errors
/// In practice none: a failing `accept` is tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    listening: Listening,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (close, closing) = watch::channel(false);
    let service = router.layer(Extension(Closing(closing))).into_make_service();
    let permits = Arc::new(Semaphore::new(listening.connections_max));
    let handle = Handle::<Peer>::new();
    let ending = handle.clone();
    let mut server = Server::from_listener(Gate { listener, permits }).handle(handle).http1_only();
    let http1 = &mut server.http_builder().http1();
    http1.header_read_timeout(listening.header_timeout).max_buf_size(HEAD_BYTES_MAX);
    let stop = async move {
        shutdown.await;
        close.send_replace(true);
        ending.graceful_shutdown(Some(DRAIN));
        std::future::pending().await
    };
    let serve = async move {
        match listening.tls {
            None => server.serve(service).await,
            Some(Tls(config)) => {
                let tls = RustlsAcceptor::new(config).handshake_timeout(listening.header_timeout);
                server.acceptor(tls).serve(service).await
            }
        }
    };
    tokio::select! {
        served = serve => served,
        never = stop => never,
    }
}

/// Where a [`Gate`] stands and who comes through it: nobody asks.
#[derive(Clone)]
struct Peer;

impl Address for Peer {
    type Stream = Connection;
    type Listener = Gate;
}

/// A listener that takes a connection only while there is a permit for it.
struct Gate {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl AddrListener<Connection, Peer> for Gate {
    async fn bind_to(_: Peer) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a gate is made of a listener"))
    }

    async fn accept_stream(&self) -> io::Result<(Connection, Peer)> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let (stream, _) = self.listener.accept().await?;
        // Small answers and events of a stream go out at once. A connection that refuses has
        // ended, which who reads it finds.
        let _ = stream.set_nodelay(true);
        Ok((Connection { stream, _permit: permit }, Peer))
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        Ok(Peer)
    }
}

/// A connection that holds its permit.
struct Connection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
