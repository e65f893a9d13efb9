//! Takes connections of switches: the TLS handshake where one is asked for, and the two directions of the stream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

use super::run::Input;
use crate::core::limit::{Limiter, more};

/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// The most TLS handshakes at a time; whoever comes then waits.
const MAX_HANDSHAKES: usize = 64;

/// What is read from.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What is written to.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A switch's connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, the switch's certificate checked.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The two directions.
    #[must_use]
    pub fn split(self) -> (Reader, Writer) {
        match self {
            Self::Plain(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Self::Tls(stream) => {
                let (read, write) = tokio::io::split(*stream);
                (Box::new(read), Box::new(write))
            }
        }
    }
}

/// Accepts switches on one address, until the main task ends.
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, inputs: mpsc::Sender<Input>) {
    let mut gate = tls.map(Gate::new);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small messages must not wait for each other; a failure costs latency only.
                let _ = stream.set_nodelay(true);
                let told = match &mut gate {
                    None => {
                        inputs.send(Input::Accepted { stream: Stream::Plain(stream), peer }).await.is_ok()
                    }
                    Some(gate) => gate.enter(stream, peer, &inputs).await,
                };
                if !told {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("a switch could not be accepted: {error}");
                // Out of file descriptors, most likely: trying again at once would only burn time.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// TLS handshakes, so many at a time.
struct Gate {
    acceptor: TlsAcceptor,
    free: Arc<Semaphore>,
    refusals: mpsc::UnboundedSender<(SocketAddr, String)>,
}

impl Gate {
    fn new(acceptor: TlsAcceptor) -> Self {
        let (refusals, told) = mpsc::unbounded_channel();
        tokio::spawn(log_refusals(told));
        Self { acceptor, free: Arc::new(Semaphore::new(MAX_HANDSHAKES)), refusals }
    }

    /// Starts a handshake; the main task is told of those that succeed. Whether there can be any more.
    async fn enter(&mut self, stream: TcpStream, peer: SocketAddr, inputs: &mpsc::Sender<Input>) -> bool {
        let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { return false };
        let (acceptor, inputs, refusals) = (self.acceptor.clone(), inputs.clone(), self.refusals.clone());
        tokio::spawn(async move {
            let done = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await;
            drop(permit);
            let why = match done {
                Ok(Ok(stream)) => {
                    let stream = Stream::Tls(Box::new(stream));
                    // Fails only when the main task ended.
                    let _ = inputs.send(Input::Accepted { stream, peer }).await;
                    return;
                }
                Ok(Err(error)) => explain(&error),
                Err(_) => format!("it was not done within {} s", HANDSHAKE_LIMIT.as_secs()),
            };
            // Fails only when the listener ended.
            let _ = refusals.send((peer, why));
        });
        true
    }
}

/// Writes refusals to the log, of each address one in ten seconds.
async fn log_refusals(mut told: mpsc::UnboundedReceiver<(SocketAddr, String)>) {
    let start = Instant::now();
    let mut limiter: Limiter<(IpAddr, String)> = Limiter::default();
    while let Some((peer, why)) = told.recv().await {
        if let Some(left_out) = limiter.allow((peer.ip(), why.clone()), start.elapsed()) {
            tracing::warn!("{peer}: refused by TLS: {why}{}", more(left_out));
        }
    }
}

/// Why a handshake failed, for the person who set up the switch.
fn explain(error: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return error.to_string();
    };
    match inner {
        Error::NoCertificatesPresented => {
            "the switch shows no certificate; set one with 'ovs-vsctl set-ssl KEY CERTIFICATE CA'".to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the switch's certificate is of a CA that --tls-ca does not have".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => format!("the switch's certificate is not valid now: {inner}"),
        Error::InvalidMessage(_) => {
            format!("what it sent is no TLS ({inner}); is it set to tcp: instead of ssl:?")
        }
        Error::AlertReceived(_) => {
            format!("the switch refuses this controller ({inner}); does its CA file vouch for --tls-cert?")
        }
        other => other.to_string(),
    }
}
