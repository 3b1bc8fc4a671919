//! Who is let in, and with what.

use std::io::Write;

use super::{Host, Reply, TOKEN};

fn problem(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

#[test]
fn nothing_is_told_without_the_token() {
    let host = Host::start();
    let asked = host.request("GET", "/v1/pipelines", "");
    assert_eq!(host.send(asked.as_bytes()).status, 200);
    let line = format!("Authorization: Bearer {TOKEN}\r\n");
    for wrong in [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer wrong\r\n".to_owned(),
        format!("Authorization: Bearer {TOKEN}0\r\n"),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("{line}{line}"),
    ] {
        let reply = host.send(asked.replace(&line, &wrong).as_bytes());
        assert_eq!(reply.problem(), problem(401, "unauthorized"), "{wrong}");
        assert!(reply.head.contains("\r\nwww-authenticate: bearer"), "{}", reply.head);
    }
    // What there is isn't told either.
    for path in
        ["/", "/v1/nothing", "/v1/pipelines/A", "/health/", "//health", "/openapi.json/../v1/pipelines"]
    {
        let asked = host.request("GET", path, "").replace(&line, "");
        assert_eq!(host.send(asked.as_bytes()).problem(), problem(401, "unauthorized"), "{path}");
    }
    for path in ["/health", "/openapi.json"] {
        let asked = host.request("GET", path, "").replace(&line, "");
        assert_eq!(host.send(asked.as_bytes()).status, 200, "{path}");
    }
}

#[test]
fn a_host_that_is_not_ours_is_refused() {
    let host = Host::start_with(&["mill.example.org"]);
    let (asked, ours) = (host.request("GET", "/health", ""), format!("Host: {}\r\n", host.address));
    for right in [format!("localhost:{}", host.address.port()), "mill.example.org".to_owned()] {
        let reply = host.send(asked.replace(&ours, &format!("Host: {right}\r\n")).as_bytes());
        assert_eq!(reply.status, 200, "{right}");
    }
    for wrong in [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{}\r\n", host.address.port()),
        "Host: 127.0.0.1:1\r\n".to_owned(),
        "Host:\r\n".to_owned(),
        format!("{ours}Host: evil.example\r\n"),
    ] {
        let reply = host.send(asked.replace(&ours, &wrong).as_bytes());
        assert!([400, 403].contains(&reply.status), "{wrong}: {reply:?}");
    }
    let absolute = asked.replace("GET /health", "GET http://evil.example/health");
    assert_eq!(host.send(absolute.as_bytes()).problem(), problem(403, "forbidden"));
}

#[test]
fn a_web_page_is_refused_even_with_the_token() {
    let host = Host::start();
    for origin in ["http://evil.example", "null", "http://localhost"] {
        for (method, path) in
            [("GET", "/v1/pipelines"), ("POST", "/v1/apply"), ("OPTIONS", "/v1/apply"), ("GET", "/health")]
        {
            let asked = host.request(method, path, "");
            let asked = asked.replace("Connection", &format!("Origin: {origin}\r\nConnection"));
            let reply = host.send(asked.as_bytes());
            assert_eq!(reply.problem(), problem(403, "forbidden"), "{origin} {method} {path}");
            assert!(!reply.head.contains("access-control"), "{}", reply.head);
        }
    }
}

#[test]
fn a_name_that_is_none_goes_no_further() {
    let host = Host::start();
    let long = "a".repeat(64);
    for name in
        ["A", "-a", "a_b", "..%2f..%2fetc", "%2e%2e", "a%00", "a%0a", "%3Cscript%3E", "%ff", "a%20b", &long]
    {
        for (method, path) in [
            ("GET", format!("/v1/pipelines/{name}")),
            ("DELETE", format!("/v1/pipelines/{name}")),
            ("POST", format!("/v1/pipelines/{name}/pause")),
            ("GET", format!("/v1/pipelines/orders/replays/{name}")),
            ("GET", format!("/v1/operations/{name}")),
        ] {
            let reply = host.ask(method, &path, "{}");
            assert_eq!(reply.status, 400, "{method} {path}: {reply:?}");
            // It says the name again, as something that no browser takes for a page.
            assert!(reply.head.contains("\r\ncontent-type: application/json\r\n"), "{reply:?}");
            assert!(reply.head.contains("\r\nx-content-type-options: nosniff"), "{reply:?}");
        }
    }
    for path in ["/v1/operations/1x", "/v1/operations/-1", "/v1/operations/99999999999999999999999"] {
        assert_eq!(host.ask("GET", path, "").problem(), problem(400, "invalid"), "{path}");
    }
    let promote = host.ask("POST", "/v1/pipelines/orders/promote", r#"{"replay":"../3"}"#);
    assert_eq!(promote.problem(), problem(400, "invalid"));
    let savepoint = host.ask("POST", "/v1/pipelines/orders/savepoints", r#"{"name":"a/b"}"#);
    assert_eq!(savepoint.problem(), problem(400, "invalid"));
}

#[test]
fn a_body_is_what_is_expected_or_refused() {
    let host = Host::start();
    let path = "/v1/pipelines/orders/stop";
    let cases = [
        ("", "object"),
        ("{", "EOF"),
        ("[]", "object"),
        ("[true]", "object"),
        ("{\"drain\":1}", "boolean"),
        ("{\"drian\":true}", "unknown field `drian`"),
        ("{\"by\":\"a\\nb\"}", "`by`"),
        ("{} {}", "trailing"),
    ];
    for (body, told) in cases {
        let reply = host.ask("POST", path, body);
        assert_eq!(reply.problem(), problem(400, "invalid"), "{body}");
        assert!(reply.message().contains(told), "{body}: {}", reply.message());
    }
    let deep = "[".repeat(100_000);
    assert_eq!(host.ask("POST", path, &deep).problem(), problem(400, "invalid"));
    for wrong in ["Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n", ""] {
        let asked = host.request("POST", path, "{}").replace("Content-Type: application/json\r\n", wrong);
        let reply = host.send(asked.as_bytes());
        assert_eq!(reply.problem(), problem(400, "invalid"), "{wrong}");
        assert!(reply.message().contains("application/json"), "{}", reply.message());
    }
    let swap = host.ask("POST", "/v1/pipelines/orders/swap", r#"{"components":{"count":"../../x"}}"#);
    assert_eq!(swap.problem(), problem(400, "invalid"));
}

#[test]
fn a_body_that_is_too_large_is_not_read() {
    let host = Host::start();
    let announced = |path: &str, bytes: u64| {
        let asked = host.request("POST", path, "");
        host.send(asked.replace("Content-Length: 0", &format!("Content-Length: {bytes}")).as_bytes())
    };
    assert_eq!(announced("/v1/plan", (2 << 20) + 1).problem(), problem(413, "too-large"));
    assert_eq!(announced("/v1/components?file=a.wasm", (256 << 20) + 1).problem(), problem(413, "too-large"));
    // One that doesn't say how large it is.
    let asked =
        host.request("POST", "/v1/plan", "").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let mut stream = host.connect();
    stream.write_all(asked.as_bytes()).unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    for _ in 0..3 {
        // The host may have said no already.
        let _ = stream.write_all(chunk.as_bytes());
    }
    assert_eq!(Reply::read(&mut stream).problem(), problem(413, "too-large"));
}

#[test]
fn what_there_is_not_is_told_in_the_same_form() {
    let host = Host::start();
    assert_eq!(host.ask("GET", "/v1/nothing", "").problem(), problem(404, "not-found"));
    let reply = host.ask("PUT", "/v1/pipelines", "");
    assert_eq!(reply.problem(), problem(405, "invalid"));
    assert!(reply.head.contains("\r\nallow: get,head"), "{}", reply.head);
    assert_eq!(host.ask("GET", "/v1/pipelines/orders?x=1&format=y", "").problem(), problem(404, "not-found"));
    assert_eq!(host.ask("GET", "/v1/pipelines/orders/logs?lines=1", "").problem(), problem(400, "invalid"));
    assert_eq!(host.ask("POST", "/v1/components", "").problem(), problem(400, "invalid"), "it lacks `file`");
    let reply = host.ask("GET", "/v1/pipelines", "");
    assert!(reply.head.contains("\r\nx-content-type-options: nosniff"), "{}", reply.head);
    assert!(reply.head.contains("\r\ncache-control: no-store"), "{}", reply.head);
    assert_eq!(reply.json(), serde_json::json!([]));
}

#[test]
fn what_is_no_http_ends_the_connection_and_not_the_host() {
    let host = Host::start();
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = host.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let many = "X: y\r\n".repeat(5_000);
    let reply = host.send(
        host.request("GET", "/health", "").replace("Connection", &format!("{many}Connection")).as_bytes(),
    );
    assert_eq!(reply.status, 431);
    assert_eq!(host.ask("GET", "/health", "").status, 200);
}
