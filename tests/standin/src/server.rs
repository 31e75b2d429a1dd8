//! The thread that listens, and each of its connections.

use crate::fault::{self, Act, Fault};
use crate::log::{Request, is_impersonation, kept_headers};
use crate::reply::{Body, Reply, Torn};
use crate::route::{About, Call, answer};
use crate::state::{Inner, lock};
use crate::tls::Tls;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// The largest body that is read, as the real server's limit for JSON.
const LARGEST_BODY: usize = 3 << 20;

/// What the handle tells the server's thread; each is answered once it is done.
pub(crate) enum Order {
    GoAway(SyncSender<()>),
    ComeBack(SyncSender<()>),
    FallSilent(SyncSender<()>),
}

/// Binds a free port and serves it until `orders` is closed. The address goes to `bound`.
pub(crate) async fn run(
    inner: Arc<Inner>,
    tls: Option<Tls>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    bound: SyncSender<std::io::Result<SocketAddr>>,
) {
    // This socket never listens: it keeps the port ours while the server is away.
    let reserved = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = reserved.as_ref().map_err(|error| std::io::Error::from(error.kind())).and_then(TcpSocket::local_addr);
    let (address, listener) = match address.and_then(|address| Ok((address, listen(address)?))) {
        Ok((address, listener)) => {
            let _ = bound.send(Ok(address));
            (address, listener)
        }
        Err(error) => {
            let _ = bound.send(Err(error));
            return;
        }
    };
    let mut listener = Some(listener);
    let (gone, silent) = (watch::channel(()).0, watch::channel(()).0);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::GoAway(done)) => {
                    listener = None;
                    gone.send_replace(());
                    tokio::task::yield_now().await;
                    let _ = done.send(());
                }
                Some(Order::ComeBack(done)) => {
                    if listener.is_none() {
                        listener = listen(address).ok();
                    }
                    let _ = done.send(());
                }
                Some(Order::FallSilent(done)) => {
                    silent.send_replace(());
                    tokio::task::yield_now().await;
                    let _ = done.send(());
                }
                None => return,
            },
            accepted = accept(listener.as_ref()) => {
                let Ok(stream) = accepted else { continue };
                inner.connections.fetch_add(1, Ordering::SeqCst);
                inner.note_change();
                let orders = (gone.subscribe(), silent.subscribe());
                tokio::spawn(serve(inner.clone(), tls.clone(), stream, orders));
            }
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    bind(address)?.listen(1024)
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// One connection, until either side ends it or the server goes away.
async fn serve(
    inner: Arc<Inner>,
    tls: Option<Tls>,
    stream: TcpStream,
    (mut gone, mut silent): (watch::Receiver<()>, watch::Receiver<()>),
) {
    let _ = stream.set_nodelay(true);
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else {
        return;
    };
    let connection = async {
        match tls {
            None => exchange(inner, socket, stream).await,
            Some(tls) => {
                if let Ok(stream) = tls.acceptor.accept(stream).await {
                    inner.handshakes.fetch_add(1, Ordering::SeqCst);
                    inner.note_change();
                    exchange(inner, socket, stream).await;
                }
            }
        }
    };
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = gone.changed() => {}
        // What is sent is taken in by the kernel, and nobody reads it.
        _ = silent.changed() => drop(gone.changed().await),
        () = &mut connection => {}
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(inner: Arc<Inner>, socket: OwnedFd, stream: S) {
    let service = service_fn(|request| respond(inner.clone(), &socket, request));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    inner: Arc<Inner>,
    socket: &OwnedFd,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Body>, Torn> {
    let (at, time) = (Instant::now(), SystemTime::now());
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (method, path) = (head.method.as_str().to_owned(), head.uri.path().to_owned());
    let query = head.uri.query().unwrap_or("").to_owned();
    let json = match serde_json::from_slice(&body) {
        Ok(json) => json,
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => String::from_utf8_lossy(&body).into(),
    };
    let headers = kept_headers(&head.headers);
    let call = Call {
        at,
        method: method.clone(),
        path: path.clone(),
        query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        content_type: text("content-type").unwrap_or_default(),
        accept: text("accept").unwrap_or_default(),
        user_agent: text("user-agent").unwrap_or_default(),
        authorization: text("authorization"),
        impersonate: headers.iter().filter(|(name, _)| is_impersonation(name)).cloned().collect(),
        body,
        about: About::parse(&path),
    };
    let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
    let number =
        lock(&inner.log).push(Request { number: 0, at, time, method, path, query, headers, body: json, answer: None });
    inner.note_change();

    let fault =
        fault::take(&mut lock(&inner.faults), head.method.as_str(), &target).unwrap_or_else(|| Fault::on("", ""));
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay).await;
    }
    // Handled in a task of its own: a client that hangs up does not undo half of an eviction.
    let handle = async |inner: &Arc<Inner>, call: Call| {
        let inner = inner.clone();
        tokio::spawn(async move { answer(&inner, &call).await }).await.map_err(|_| Torn)
    };
    let own = call.reply_of(&fault.act);
    let mut reply = match (&fault.act, own) {
        (Act::Handle | Act::CutAfter(_) | Act::HangAfter(_), _) => handle(&inner, call).await?,
        (_, own) => {
            if fault.after_handling {
                handle(&inner, call).await?;
            }
            match (&fault.act, own) {
                (Act::Hang, _) => std::future::pending().await,
                (_, Some(reply)) => reply,
                _ => {
                    let _ = setsockopt(socket, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 });
                    return Err(Torn);
                }
            }
        }
    };
    if let Act::CutAfter(bytes) = fault.act {
        reply.body.cut_after(bytes);
    }
    if let Act::HangAfter(bytes) = fault.act {
        reply.body.hang_after(bytes);
    }
    lock(&inner.log).answered(number, reply.code);
    inner.note_change();
    response(reply)
}

impl Call {
    fn reply_of(&self, act: &Act) -> Option<Reply> {
        self.with_vars("", crate::route::USER, &[], |vars| fault::answer(act, vars))
    }
}

fn response(reply: Reply) -> Result<hyper::Response<Body>, Torn> {
    let mut response = hyper::Response::builder().status(reply.code);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    if let Some(length) = reply.body.length() {
        response = response.header("content-length", length);
    }
    response.body(reply.body).map_err(|_| Torn)
}
