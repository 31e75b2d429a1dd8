//! `status` and `run` take what kubectl takes as a kubeconfig; what they do not take is refused in one clear line.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use standin::cgroups::Tree;
use standin::{Standin, pod, slack};
use tempfile::TempDir;

use crate::cluster::Cluster;

const BINARY: &str = env!("CARGO_BIN_EXE_pre-oom-killer");

/// A server, and a directory for kubeconfigs that name it.
struct Desk {
    server: Standin,
    dir: TempDir,
}

/// The text of a kubeconfig with one of each.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters:\n- name: k\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    )
}

impl Desk {
    fn new() -> Desk {
        Desk::of(Cluster::empty(Duration::ZERO).server)
    }

    fn of(server: Standin) -> Desk {
        Desk { server, dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// `server: …, token: …` of a kubeconfig.
    fn server(&self) -> String {
        let authority = self.server.authority().map(|data| format!(", certificate-authority-data: {data}"));
        format!("server: \"{}\"{}", self.server.url(), authority.unwrap_or_default())
    }

    fn token(&self) -> String {
        format!("token: \"{}\"", self.server.token())
    }

    fn good(&self) -> String {
        kubeconfig(&self.server(), &self.token())
    }

    fn command(&self, words: &[&str], kubeconfig: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(BINARY);
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.args(words).current_dir(self.dir.path()).env("HOME", self.dir.path()).env("KUBECONFIG", kubeconfig);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        command
    }

    /// What `status` says; the message where it fails.
    fn status_with(&self, kubeconfig: &str, words: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
        let words = [&["status", "-A", "--timeout", "2s"], words].concat();
        let output = self.command(&words, kubeconfig, variables).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        // Without agents it ends with 1, too.
        if stdout.starts_with("No agents") { Ok(stdout) } else { Err(stderr) }
    }

    fn status(&self, kubeconfig: &str) -> Result<String, String> {
        self.status_with(kubeconfig, &[], &[])
    }

    /// Whether `run` begins to guard; the lines on stderr where it does not.
    fn run(&self, kubeconfig: &str, node: &str, until: &str) -> Result<(), String> {
        let tree = Tree::simulated();
        let root = tree.root().display().to_string();
        let node = format!("--node-name={node}");
        let words = ["run", &node, "--listen", "127.0.0.1:0", "--log-format", "text", "--cgroup-root", &root];
        let mut child = self.command(&words, kubeconfig, &[]).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut said = String::new();
        while !said.contains(until)
            && let Ok(line) = lines.recv_timeout(slack(Duration::from_secs(5)))
        {
            said += &(line + "\n");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if said.contains(until) { Ok(()) } else { Err(said) }
    }
}

/// It is one line of an error, and has all these words in it.
fn one_line(said: Result<String, String>, words: &[&str]) {
    let said = said.unwrap_err();
    assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{words:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(said.len() < 500, "{said}");
}

#[test]
fn a_list_of_files_is_merged_and_a_missing_one_left_out() {
    let desk = Desk::new();
    let first = desk.write(
        "first",
        "apiVersion: v1\nkind: Config\ncurrent-context: \"\"\nusers:\n- name: u\n  user: {token: \"wrong\"}\n",
    );
    // The first that says something wins; of a user in two files, only the first is read.
    let right = desk.write("right", format!("users:\n- name: u\n  user: {{{}}}\n", desk.token()));
    let rest = desk.write("rest", kubeconfig(&desk.server(), "token: wrong"));
    let empty = desk.write("empty", "");
    let missing = desk.dir.path().join("missing").display().to_string();
    for list in [
        format!("{right}:{rest}"),
        format!("{missing}:{right}:{rest}"),
        format!(":{right}::{rest}:{missing}:"),
        format!("{empty}:{right}:{rest}"),
    ] {
        desk.status(&list).unwrap();
        desk.run(&list, "node-host", "pre-oom-killer starts").unwrap();
    }
    // An empty current-context is none, so the next file's counts.
    one_line(desk.status(&format!("{first}:{rest}")), &["401"]);
    one_line(desk.status(&missing), &[&missing]);
    one_line(desk.status(&format!("{missing}:{missing}2")), &[&missing]);
    one_line(desk.run(&missing, "n", "starts").map(|()| String::new()), &[&missing, "KUBECONFIG"]);
    // What is there and cannot be read is not left out.
    let bad = desk.write("bad", "a: [\n");
    one_line(desk.status(&format!("{bad}:{right}:{rest}")), &[&bad, "YAML"]);
    let directory = desk.dir.path().display().to_string();
    one_line(desk.status(&format!("{directory}:{right}:{rest}")), &[&directory, "directory"]);
    // Half a character of UTF-16.
    let torn = desk.write("torn", b"\xff\xfea\0b");
    one_line(desk.status(&torn), &[&torn]);
    one_line(desk.status(&empty), &["context"]);
}

/// Of what is not in use, kubectl needs nothing; of two equal keys it takes the last; and it reads a pipe.
#[test]
fn what_is_not_in_use_may_be_incomplete() {
    let desk = Desk::new();
    let good = desk.good();
    for text in [
        good.replace("contexts: [", "contexts: [{name: other, context: {namespace: x}}, {name: none}, "),
        good.replace("clusters:\n", "clusters:\n- name: empty\n- name: nothing\n  cluster: {server: \"\"}\n"),
        good.replace("users:\n", "users:\n- name: nobody\n- name: null-user\n  user: null\n"),
        good.replace("kind: Config\n", "kind: Config\nkind: Config\npreferences: {}\nextensions: null\n"),
        good.replace("apiVersion: v1\nkind: Config\n", ""),
        serde_json::to_string_pretty(&serde_json::json!({
            "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": desk.server.url()}}],
            "users": [{"name": "u", "user": {"token": desk.server.token()}}],
        }))
        .unwrap()
        .replace("  ", "\t"),
    ] {
        desk.status(&desk.write("config", &text)).unwrap_or_else(|said| panic!("{said}\n{text}"));
    }
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(good.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    desk.status(&desk.write("config", utf16)).unwrap();
    desk.status(&desk.write("config", "\u{feff}".to_owned() + &good)).unwrap();
    // As `KUBECONFIG=<(…)`: it can be read only once.
    let pipe = desk.dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = {
        let (pipe, good) = (pipe.clone(), good.clone());
        std::thread::spawn(move || std::fs::write(pipe, good))
    };
    desk.status(pipe.to_str().unwrap()).unwrap();
    writer.join().unwrap().unwrap();
}

#[test]
fn only_empty_names_are_no_kubeconfig() {
    let desk = Desk::new();
    desk.write(".kube/config", desk.good());
    for list in ["", ":", "::"] {
        desk.status(list).unwrap();
    }
}

#[test]
fn contexts_clusters_and_users_that_are_not_there_are_named() {
    let desk = Desk::new();
    let of = |context: &str, current: &str| {
        let text = desk.good().replace("current-context: c", &format!("current-context: {current}"));
        desk.write("config", text.replace("{cluster: k, user: u}", context))
    };
    let good = "{cluster: k, user: u}";
    desk.status(&of(good, "c")).unwrap();
    one_line(desk.status(&of(good, "\"\"")), &["no current context", "--context", "\"c\""]);
    one_line(desk.status(&of(good, "nope")), &["context \"nope\"", "\"c\""]);
    one_line(desk.status_with(&of(good, "c"), &["--context", "nope"], &[]), &["context \"nope\"", "\"c\""]);
    one_line(desk.status(&of("{cluster: kk, user: u}", "c")), &["cluster \"kk\"", "context \"c\""]);
    one_line(desk.status(&of("{cluster: k, user: uu}", "c")), &["user \"uu\"", "context \"c\""]);
    one_line(desk.status(&of("{cluster: \"\", user: u}", "c")), &["context \"c\"", "cluster"]);
    // Nobody in particular, as kubectl has it.
    one_line(desk.status(&of("{cluster: k, user: \"\"}", "c")), &["system:anonymous"]);
}

#[test]
fn an_address_is_what_kubectl_takes_for_one() {
    let desk = Desk::new();
    let of = |server: &str| desk.write("config", kubeconfig(&format!("server: \"{server}\""), &desk.token()));
    let plain = desk.server.address();
    for server in [
        format!("{plain}"),
        format!("http://{plain}/"),
        format!("HTTP://{plain}"),
        format!("localhost:{}", plain.port()),
    ] {
        let config = of(&server);
        desk.status(&config).unwrap_or_else(|said| panic!("{server}: {said}"));
        desk.run(&config, "node-host", "pre-oom-killer starts").unwrap();
    }
    for server in ["", "ftp://a:1", "a:1/b", "http://", "a b", "http://a:99999"] {
        one_line(desk.status(&of(server)), &["cluster \"k\"", "server"]);
        let said = desk.run(&of(server), "n", "pre-oom-killer starts").unwrap_err();
        assert!(said.contains("cluster \"k\"") && !said.contains("panicked"), "{said}");
    }
}

/// With an authority, or without any check of it, an address without a scheme is one of https.
#[test]
fn tls_is_as_the_kubeconfig_has_it() {
    let desk = Desk::of(Standin::start_tls());
    let (address, data) = (desk.server.address(), desk.server.authority().unwrap().to_owned());
    let pem: Vec<u8> = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &data).unwrap();
    desk.write("keys/ca.pem", &pem);
    let broken: String =
        data.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\\n").collect();
    for cluster in [
        format!("server: \"{address}\", certificate-authority-data: {data}"),
        format!("server: \"{address}\", insecure-skip-tls-verify: true"),
        format!("server: \"https://{address}\", certificate-authority-data: \"{broken}\""),
        // Relative to the file's directory, not to the working directory.
        format!("server: \"https://{address}\", certificate-authority: ca.pem, certificate-authority-data: \"\""),
        format!(
            "server: \"https://{address}\", certificate-authority-data: {data}, certificate-authority: \"\", proxy-url: \"\""
        ),
        format!("server: \"https://{address}\", certificate-authority-data: {data}, tls-server-name: localhost"),
        format!("server: \"https://{address}\", certificate-authority-data: {data}, tls-server-name: \"\""),
    ] {
        let config = desk.write("keys/config", kubeconfig(&cluster, &desk.token()));
        desk.status(&config).unwrap_or_else(|said| panic!("{cluster}: {said}"));
    }
    let of = |more: &str| {
        desk.write("keys/config", kubeconfig(&format!("server: \"https://{address}\", {more}"), &desk.token()))
    };
    one_line(
        desk.status(&of("certificate-authority: none.pem")),
        &["cluster \"k\"", "certificate-authority", "keys/none.pem"],
    );
    one_line(desk.status(&of("certificate-authority-data: \"%%%\"")), &["cluster \"k\"", "certificate-authority-data"]);
    desk.write("keys/text", "no certificate");
    one_line(desk.status(&of("certificate-authority: text")), &["certificate-authority", "keys/text"]);
    let other = of(&format!("certificate-authority-data: {data}, tls-server-name: other"));
    one_line(desk.status(&other), &["certificate"]);
}

#[test]
fn a_token_may_be_in_a_file_with_a_line_end() {
    let desk = Desk::new();
    for (file, text) in
        [("plain", desk.server.token()), ("line", desk.server.token() + "\n"), ("dos", desk.server.token() + "\r\n")]
    {
        desk.write(file, text);
        let config = desk.write("config", kubeconfig(&desk.server(), &format!("tokenFile: {file}")));
        desk.status(&config).unwrap();
        desk.run(&config, "node-host", "no pod on node node-host has opted in").unwrap();
        // An empty token is none.
        let config = desk.write("config", kubeconfig(&desk.server(), &format!("token: \"\", tokenFile: {file}")));
        desk.status(&config).unwrap();
    }
    let token = desk.server.token();
    desk.status(&desk.write("config", kubeconfig(&desk.server(), &format!("token: \"{token}\\n\"")))).unwrap();
    desk.write("two", "a\nb\n");
    for user in ["token: \"a\\nb\"", "tokenFile: two"] {
        let config = desk.write("config", kubeconfig(&desk.server(), user));
        one_line(desk.status(&config), &["user \"u\"", "token", "control character"]);
    }
    let config = desk.write("config", kubeconfig(&desk.server(), "tokenFile: nowhere"));
    one_line(desk.status(&config), &["user \"u\"", "tokenFile", "nowhere"]);
}

/// Certificates that kubectl takes, or whose error it says better: `fixtures/certificates`.
#[test]
fn a_client_certificate_that_cannot_be_used_is_named() {
    let desk = Desk::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/certificates");
    let with = |certificate: &str, key: &str| {
        let file = |name| fixtures.join(name).display().to_string();
        let user = format!("client-certificate: {}, client-key: {}, {}", file(certificate), file(key), desk.token());
        desk.status(&desk.write("config", kubeconfig(&desk.server(), &user)))
    };
    with("good.pem", "good.pem").unwrap();
    for (file, why) in [
        ("version-1.pem", "version 1"),
        ("p521.pem", "P-256"),
        ("encrypted.pem", "passphrase"),
        ("encrypted-traditional.pem", "passphrase"),
        ("other-key.pem", "does not belong"),
    ] {
        one_line(with(file, file), &["kubeconfig's user", "client-certificate", "client-key", file, why]);
    }
    one_line(with("good.pem", "none.pem"), &["user \"u\"", "client-key", "none.pem"]);
    one_line(with("none.pem", "good.pem"), &["user \"u\"", "client-certificate", "none.pem"]);
    let alone = format!("client-certificate: {}", fixtures.join("good.pem").display());
    one_line(desk.status(&desk.write("config", kubeconfig(&desk.server(), &alone))), &["user \"u\"", "client-key"]);
    let data = "client-certificate-data: eA==, client-key-data: eA==";
    one_line(
        desk.status(&desk.write("config", kubeconfig(&desk.server(), data))),
        &["kubeconfig's user", "client-certificate-data"],
    );
    let pem = std::fs::read(fixtures.join("good.pem")).unwrap();
    let data = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem);
    let (begin, end) = data.split_at(76);
    let user =
        format!("client-certificate-data: \"{begin}\\n{end}\\n\", client-key-data: \"{data}\\n\", {}", desk.token());
    desk.status(&desk.write("config", kubeconfig(&desk.server(), &user))).unwrap();
}

#[test]
fn a_plugin_that_is_missing_or_fails_is_named() {
    let desk = Desk::new();
    let of = |exec: &str| {
        let user = format!("exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, {exec}}}");
        desk.write("config", kubeconfig(&desk.server(), &user))
    };
    let hint = "installHint: \"Install it:\\n\\n  brew install nope-login\\n\"";
    for exec in ["command: nope-login", "command: ./bin/nope-login"] {
        let config = of(&format!("{exec}, {hint}"));
        one_line(desk.status(&config), &["kubeconfig's user", "nope-login", "Install it: brew install nope-login"]);
        let said = desk.run(&config, "n", "pre-oom-killer starts").unwrap_err();
        assert!(said.contains("nope-login") && said.contains("brew install"), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    let fails = "command: sh, args: [-c, \"echo secret; echo >&2 not logged in; exit 3\"]";
    let said = desk.status(&of(fails));
    assert!(!said.as_ref().unwrap_err().contains("secret"), "{said:?}");
    one_line(said, &["kubeconfig's user", "sh", "not logged in"]);
    one_line(desk.status(&of("command: \"true\"")), &["kubeconfig's user", "true"]);
    one_line(desk.status(&of("args: [x]")), &["user \"u\"", "command"]);
    // The plugin's path is relative to the kubeconfig's directory.
    let token = desk.server.token();
    let plugin = desk.write("bin/login", format!(
        "#!/bin/sh\necho '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"{token}\"}}}}'\n"
    ));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(plugin, mode).unwrap();
    desk.status(&of("command: ./bin/login")).unwrap();
}

#[test]
fn proxies_are_those_that_kubectl_takes() {
    let desk = Desk::new();
    let config = desk.write("config", desk.good());
    // Nothing listens there; and a loopback address never goes through a proxy of the environment.
    let nowhere = "http://127.0.0.1:1";
    for no_proxy in ["", "example.com,", " , ", "*", "127.0.0.1:99"] {
        let variables = [("HTTPS_PROXY", nowhere), ("HTTP_PROXY", nowhere), ("NO_PROXY", no_proxy)];
        desk.status_with(&config, &[], &variables).unwrap_or_else(|said| panic!("{no_proxy:?}: {said}"));
    }
    // The kubeconfig's own always does.
    let config =
        desk.write("config", kubeconfig(&format!("{}, proxy-url: \"{nowhere}\"", desk.server()), &desk.token()));
    one_line(desk.status_with(&config, &[], &[("NO_PROXY", "127.0.0.1")]), &["refused"]);
    for bad in ["127.0.0.1:1", "ftp://a:1", "http://"] {
        let config =
            desk.write("config", kubeconfig(&format!("{}, proxy-url: \"{bad}\"", desk.server()), &desk.token()));
        one_line(desk.status(&config), &["cluster \"k\"", "proxy-url", bad]);
    }
    // Only a server that is reached through it needs it to be right.
    let far = desk.write(
        "config",
        kubeconfig("server: \"https://192.0.2.1:6443\", insecure-skip-tls-verify: true", &desk.token()),
    );
    one_line(desk.status_with(&far, &[], &[("HTTPS_PROXY", "ftp://a:1")]), &["HTTPS_PROXY", "ftp://a:1"]);
    one_line(desk.status_with(&far, &[], &[("HTTPS_PROXY", "127.0.0.1:1")]), &["refused"]);
}

#[test]
fn a_node_of_no_possible_name_is_refused() {
    let desk = Desk::new();
    let config = desk.write("config", desk.good());
    for (name, meant) in [
        ("Node-A.Example.COM", "node-a.example.com"),
        ("node_a", ""),
        ("node-a.", ""),
        ("node-a ", "node-a"),
        ("-a", ""),
    ] {
        let said = desk.run(&config, name, "pre-oom-killer starts").map(|()| String::new());
        one_line(said, &["--node-name", "no node", name.trim(), meant]);
    }
    // Of a name that is possible, the empty list is the only sign.
    desk.server.put_pod(pod("shop", "web").node("another").build());
    desk.run(&config, "node-host", "no pod on node node-host has opted in").unwrap();
}
