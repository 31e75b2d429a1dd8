//! A headless Chromium, driven through the pipe of its DevTools protocol: JSON texts, each ended by a zero byte.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::agent::soon;

/// A browser with one tab; ended when dropped.
pub struct Browser {
    child: Child,
    to: RefCell<ChildStdin>,
    from: Receiver<Value>,
    next: Cell<u64>,
    session: RefCell<Option<String>>,
    /// What was reported and not asked for: requests, messages of the console, exceptions.
    seen: RefCell<Vec<Value>>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Debian's `chromium`, with an empty tab.
    pub fn start() -> Browser {
        // The protocol's descriptors are 3 and 4; it must find no other network than this machine.
        const SCRIPT: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "sh", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .arg("--hide-scrollbars")
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            while answers.read_until(0, &mut text).is_ok_and(|n| n > 0) {
                text.pop();
                if sender.send(serde_json::from_slice(&text).expect("JSON")).is_err() {
                    return;
                }
                text.clear();
            }
        });
        let browser = Browser {
            to: RefCell::new(child.stdin.take().expect("piped")),
            child,
            from,
            next: Cell::new(1),
            session: RefCell::new(None),
            seen: RefCell::new(Vec::new()),
            _profile: profile,
        };
        let tab = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let id = &tab["targetId"];
        let attached = browser.ask("Target.attachToTarget", json!({"targetId": id, "flatten": true}));
        *browser.session.borrow_mut() = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Runtime", "Log", "Accessibility"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One command of the protocol, and its result.
    pub fn ask(&self, method: &str, params: Value) -> Value {
        let id = self.next.replace(self.next.get() + 1);
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &*self.session.borrow() {
            command["sessionId"] = json!(session);
        }
        let text = format!("{command}\0");
        self.to.borrow_mut().write_all(text.as_bytes()).expect("the browser runs");
        let begin = Instant::now();
        loop {
            let left = soon().saturating_sub(begin.elapsed());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            // It would wait for an answer to that.
            assert_ne!(answer["method"], "Page.javascriptDialogOpening", "a script from elsewhere ran: {answer}");
            self.seen.borrow_mut().push(answer);
        }
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, address: &str) {
        let opened = self.ask("Page.navigate", json!({"url": address}));
        assert!(opened["errorText"].is_null(), "{address}: {opened}");
        self.wait_for("document.readyState === 'complete'");
    }

    /// The value of an expression in the page; promises are waited for.
    pub fn eval(&self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text of it.
    pub fn text(&self, expression: &str) -> String {
        self.eval(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&self, expression: &str) {
        let begin = Instant::now();
        while self.eval(expression) != true {
            let shown = || self.text("document.body.innerText");
            assert!(begin.elapsed() < soon(), "waited in vain: {expression}\nthe page:\n{}", shown());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => panic!("{other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text into what has the focus.
    pub fn write(&self, text: &str) {
        self.ask("Input.insertText", json!({"text": text}));
    }

    /// A window of this size, `light` or `dark`.
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.ask("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// A picture of the whole page.
    pub fn picture(&self) -> Vec<u8> {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let shot = self.ask("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        BASE64_STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64")
    }

    /// What assistive software sees: role and name of each node that is not ignored.
    pub fn accessible(&self) -> Vec<(String, String)> {
        let tree = self.ask("Accessibility.getFullAXTree", json!({}));
        let text = |v: &Value| v["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().expect("a tree").iter();
        nodes.filter(|n| n["ignored"] == false).map(|n| (text(&n["role"]), text(&n["name"]))).collect()
    }

    /// What was reported under this method so far.
    pub fn reported(&self, method: &str) -> Vec<Value> {
        self.eval("0"); // takes in what is waiting
        let seen = self.seen.borrow();
        seen.iter().filter(|e| e["method"] == method).map(|e| e["params"].clone()).collect()
    }

    /// The addresses that were asked for.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.reported("Network.requestWillBeSent").into_iter();
        sent.filter_map(|r| r["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// Complaints: of the console, of the policies, exceptions.
    pub fn complaints(&self) -> Vec<String> {
        let kinds = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
        kinds.iter().flat_map(|k| self.reported(k)).map(|c| c.to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seen = self.seen.borrow();
            for event in
                seen.iter().filter(|e| e["method"] == "Log.entryAdded" || e["method"] == "Runtime.exceptionThrown")
            {
                eprintln!("the browser: {event}");
            }
        }
        // It has children of its own.
        let group = i32::try_from(self.child.id()).expect("a pid");
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
