use std::os::unix::fs::MetadataExt;

use lb_core::host::overlay::Order;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::client::{self, AskError};
use crate::control::{Balancer, Moved, Reloaded};

/// A folder of this test alone, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lb-server-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Answers connections with what was asked, detaching with success and everything else with an error.
async fn pretend(mut queries: mpsc::Receiver<Query>) {
    while let Some(query) = queries.recv().await {
        match query {
            Query::Status(reply) => drop(reply.send(Err(Denied::Failed("no\nstate".into())))),
            Query::Stats(reply) => drop(reply),
            Query::Handover(connections, reply) => {
                reply.send(Err(Denied::Wrong(format!("connections: {connections}")))).unwrap();
            }
            Query::Connections(wanted, reply) => {
                let asked = (wanted.vip.as_deref(), wanted.backend.as_deref());
                let total = wanted.limit as u64;
                reply
                    .send(match asked {
                        (Some("10.0.1.1:80/tcp"), Some("10.0.0.1")) => {
                            Ok(Connections { total, connections: Vec::new(), next: None })
                        }
                        _ => Err(Denied::Wrong(format!("unexpected: {asked:?}"))),
                    })
                    .unwrap();
            }
            Query::Order(Ask::Upgrade { object, verify, reply }) => {
                let told = format!("{} bytes, {verify:?}", object.len());
                reply.send(Err(Denied::Wrong(told))).unwrap();
            }
            Query::Order(Ask::Move { to, reply }) => {
                let moved = Moved { balancer: to, connections: 3, took_ms: 4, changed: true };
                reply.send(Ok(moved)).unwrap();
            }
            Query::Order(Ask::Reload { check, reply }) => {
                let (file, changes) = ("lb.toml".to_owned(), Vec::new());
                reply.send(Ok(Reloaded { file, applied: !check, changes })).unwrap();
            }
            Query::Order(Ask::Backend { backend, vip, order, reply }) => {
                reply.send(Err(Denied::Wrong(format!("{backend} {vip:?} {order:?}")))).unwrap();
            }
            Query::Detach(reply) => {
                reply
                    .send(Ok(Detached { programs: vec!["lb from s1-eth1".into()], ..Default::default() }))
                    .unwrap();
            }
        }
    }
}

fn start(folder: &Folder) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = bind(&folder.0).unwrap();
    let (queries, asked) = mpsc::channel(4);
    tokio::spawn(pretend(asked));
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(listener, queries, async {
        stopped.await.ok();
    }));
    (stop, server)
}

async fn raw(folder: &Folder, head: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket_path(&folder.0)).await.unwrap();
    let length = body.len();
    let request =
        format!("{head} HTTP/1.1\r\nHost: lb\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body: ErrorBody = serde_json::from_str(body).unwrap();
    assert_eq!(body.error.lines().count(), 1, "{}", body.error);
    (status, body.error)
}

#[tokio::test]
async fn client_and_server_understand_each_other() {
    let folder = Folder::new("both");
    let (stop, server) = start(&folder);
    let run_dir = &folder.0;
    assert_eq!(client::detach(run_dir).await.unwrap().programs, ["lb from s1-eth1"]);
    let mut fields = conns::Fields {
        limit: Some("7".into()),
        vip: Some("10.0.1.1:80/tcp".into()),
        backend: Some("10.0.0.1".into()),
        ..conns::Fields::default()
    };
    let moved = control::client::change_mode(run_dir, Balancer::OpenFlow).await.unwrap();
    assert_eq!((moved.balancer, moved.connections), (Balancer::OpenFlow, 3));
    let (status, why) = raw(&folder, "POST /v1/mode?to=nobody", "").await;
    assert!(status == 400 && why.contains("nobody"), "{why}");
    let answer = client::connections(run_dir, &fields).await.unwrap();
    assert_eq!(answer.total, 7);
    fields.vip = None;
    let AskError::Failed(failure) = client::connections(run_dir, &fields).await.unwrap_err() else {
        panic!("no daemon")
    };
    assert!(failure.message.starts_with("unexpected") && failure.status == 2, "{failure}");
    let AskError::Failed(failure) = client::status(run_dir).await.unwrap_err() else { panic!("no daemon") };
    assert!(failure.message.ends_with("lb.sock: no, state"), "{failure}");
    assert_eq!(failure.status, 1);
    let AskError::Failed(failure) = client::stats(run_dir).await.unwrap_err() else { panic!("no daemon") };
    assert!(failure.message.contains("the daemon is ending"), "{failure}");
    let order = Order::Add { name: Some("a&b".into()), weight: 2 };
    let refused = control::client::backend(run_dir, "10.0.0.9:80", Some("web"), &order).await.unwrap_err();
    let failure = Failure::from(refused);
    assert!(failure.message.contains("10.0.0.9:80 Some(\"web\") Add { name: Some(\"a&b\")"), "{failure}");
    assert_eq!(failure.status, 2, "a refused order is wrong input");
    let window = std::time::Duration::from_millis(1500);
    let large = control::client::upgrade(run_dir, vec![0; 2 << 20], Some(window)).await.unwrap_err();
    let failure = Failure::from(large);
    assert!(failure.message.contains("2097152 bytes, Some(1.5s)"), "{failure}");
    for check in [false, true] {
        assert_eq!(control::client::reload(run_dir, check).await.unwrap().applied, !check);
    }
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(matches!(client::status(run_dir).await, Err(AskError::NoDaemon(_))));
}

#[tokio::test]
async fn bad_requests_are_refused_in_one_line() {
    let folder = Folder::new("bad");
    let (_stop, _server) = start(&folder);
    let long = "x".repeat(MAX_BODY + 1);
    let cases = [
        ("GET /v2/status", "", 404, "no such path"),
        ("POST /v1/status", "", 405, "method not allowed"),
        ("GET /v1/detach", "", 405, "method not allowed"),
        ("GET /v1/connections?limit=many", "", 400, "limit=many"),
        ("GET /v1/connections?limit=-1", "", 400, "limit=-1"),
        ("GET /v1/connections?client=h1", "", 400, "client=h1"),
        ("GET /v1/connections?state=open", "", 400, "state=open"),
        ("GET /v1/connections?page=0", "", 400, "page=0"),
        ("POST /metrics", "", 405, "method not allowed"),
        ("GET /v1/connections?colour=red", "", 400, "colour"),
        ("POST /v1/backend/paint?backend=h1", "", 404, "no order paint"),
        ("POST /v1/backend/drain", "", 400, "backend"),
        ("POST /v1/backend/drain?backend=h1&deadline_ms=soon", "", 400, "deadline_ms=soon"),
        (
            "POST /v1/backend/drain?backend=h1&deadline_ms=5",
            "",
            400,
            "h1 None Drain { deadline_ms: Some(5) }",
        ),
        ("POST /v1/backend/enable?backend=h1&weight=1", "", 400, "enable takes no weight"),
        ("POST /v1/backend/weight?backend=h1", "", 400, "weight is missing"),
        ("POST /v1/backend/weight?backend=h1&weight=257", "", 400, "0 to 256"),
        ("POST /v1/upgrade?verify_ms=1000000", "", 400, "more than 600 s"),
        ("POST /v1/reload?check=maybe", "", 400, "check"),
        ("GET /v1/backend/drain?backend=h1", "", 405, "method not allowed"),
        ("POST /v1/detach", long.as_str(), 413, "length limit"),
        ("GET /v1/stats", long.as_str(), 413, "length limit"),
    ];
    for (head, body, status, text) in cases {
        let (got, error) = raw(&folder, head, body).await;
        assert_eq!(got, status, "{head}: {error}");
        assert!(error.contains(text), "{head}: {error}");
    }
}

#[tokio::test]
async fn only_a_stale_socket_is_replaced_and_it_is_private() {
    let folder = Folder::new("bind");
    let run_dir = folder.0.join("deep/run");
    drop(bind(&run_dir).unwrap());
    let path = socket_path(&run_dir);
    assert!(path.exists(), "a dropped listener leaves its socket");
    let listener = bind(&run_dir).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&run_dir).unwrap().mode() & 0o777, 0o700);
    let failure = bind(&run_dir).unwrap_err();
    assert!(failure.message.contains("answers there already"), "{failure}");
    drop(listener);
    remove_socket(&run_dir);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let failure = bind(&run_dir).unwrap_err();
    assert!(failure.message.contains("is not a socket") && failure.status == 2, "{failure}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert!(make_run_dir(&path).unwrap_err().message.contains("is not a folder"));
}
