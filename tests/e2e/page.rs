//! The page for people, as a browser shows it: a real Chromium loads it from a running agent.
//! Pictures of all that was seen are left in `PAGE_PICTURES`, to be looked at.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use standin::{Fault, Pdb, pod};

use crate::agent::Agent;
use crate::browser::Browser;
use crate::world::{MIB, NS, PREFIX, Place, World, container_id};

const LIMIT: u64 = 256 * MIB;
/// All that a careless page would make markup or a script of.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'`--><script>alert(2)</script>&lt;b&gt;${alert(3)}";
/// Turns what follows it around, where it is not kept apart.
const RIGHT_TO_LEFT: &str = "\u{202e}gnp.exe \u{05d0}\u{05d1}";

/// A browser on the agent's page, which has been drawn once.
fn open(agent: &Agent) -> Browser {
    let browser = Browser::start();
    browser.look(1200, 900, "light");
    browser.open(&address(agent));
    browser.wait_for("document.querySelector('#updated').textContent.startsWith('Read')");
    browser
}

fn address(agent: &Agent) -> String {
    format!("http://{}/", agent.address())
}

/// Nothing was asked for but the page and its facts, and nobody complained.
fn all_is_quiet(browser: &Browser, agent: &Agent) {
    let allowed = ["", "api/guards", "api/guards?history=1"].map(|path| address(agent) + path);
    let requests = browser.requests();
    let elsewhere: Vec<_> = requests.iter().filter(|r| !allowed.contains(r) && !r.starts_with("data:image")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn keep_picture(browser: &Browser, name: &str) {
    if let Some(dir) = std::env::var_os("PAGE_PICTURES") {
        let dir = PathBuf::from(dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join(format!("{name}.png")), browser.picture()).expect("a file there");
    }
}

/// The text of the row of a pod.
fn row(browser: &Browser, pod: &str) -> String {
    let all = browser.text("[...document.querySelectorAll('#rows tr')].map(r => r.innerText).join('\\u0000')");
    all.split('\0').find(|row| row.starts_with(pod)).unwrap_or_default().to_owned()
}

fn contains(selector: &str, text: &str) -> String {
    format!("document.querySelector({}).textContent.includes({})", json!(selector), json!(text))
}

/// Pods in all the states that a page meets often, and an agent that has seen them.
fn world_of_many_states() -> (World, Vec<Place>, Agent) {
    let world = World::simulated();
    let calm = world.guarded("frontend-58f6dff65f-p9cf2", LIMIT);
    calm.group.simulate(40 * MIB, 10 * MIB);
    let warm = world.guarded("cart-7d4b9c6f5d-x2x8k", LIMIT);
    warm.group.simulate(140 * MIB, MIB);
    let blocked = world.place("ledger-0", Some(LIMIT), |p| {
        p.label("app", "ledger").annotation(&format!("{PREFIX}memory-usage-threshold"), "60")
    });
    world.server.put_pdb(Pdb::blocking(NS, "ledger", &[("app", "ledger")]));
    blocked.group.simulate(170 * MIB, MIB);
    let tried = world.place("batch-report-28811220-9fzqv", Some(LIMIT), |p| {
        p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60").annotation(&format!("{PREFIX}dry-run"), "client")
    });
    tried.group.simulate(160 * MIB, MIB);
    let unlimited = world.place("cache-0", None, |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "512Mi"));
    unlimited.group.simulate(300 * MIB, 20 * MIB);
    world.place("typo-0", Some(LIMIT), |p| p.annotation(&format!("{PREFIX}memory-usage-threshold"), "60m"));
    let agent = world.agent(&[]);
    world.wait_events("PreOOMEvictionBlocked", 1);
    agent.wait_state("batch-report-28811220-9fzqv", "app", "dry-run");
    (world, vec![calm, warm, blocked, tried, unlimited], agent)
}

/// The agent remembers, so a page that was just opened has both curves.
fn what_was_before_is_shown_at_once(agent: &Agent) {
    agent.wait_until("ten seconds of it", |agent| {
        (agent.guard("web", "app")["memory"]["knownSeconds"].as_u64() >= Some(10)).then_some(())
    });
    let browser = open(agent);
    let points =
        "[...document.querySelectorAll('.spark polyline')].map(l => l.getAttribute('points').split(' ').length)";
    let points = browser.eval(points);
    assert!(points[0].as_u64() >= Some(3) && points[1].as_u64() >= Some(1), "{points}");
    let said = browser.text("document.querySelector('.spark:not(.day)').getAttribute('aria-label')");
    assert!(said.contains("most 132Mi") && !said.contains("least 132Mi"), "{said}");
    let day = browser.text("document.querySelector('.day').getAttribute('aria-label')");
    assert!(day.contains("peak 132Mi"), "{day}");
}

/// The bar and the words follow the memory; the eviction is there without a reload, and is said once.
pub fn a_ramp_moves_and_its_eviction_appears() {
    let world = World::simulated();
    let place = world.guarded("web", LIMIT);
    place.group.simulate(32 * MIB, 0);
    let agent = world.agent(&[]);
    let browser = open(&agent);
    let width = || browser.eval("+document.querySelector('.fill[width]:not(.key *)').getAttribute('width')");
    assert_eq!(width(), 125, "32 of 256");
    assert!(row(&browser, "web").contains("working-set 32Mi of 256Mi"), "{}", row(&browser, "web"));
    for step in 1..=5 {
        place.group.simulate((32 + 20 * step) * MIB, 0);
        std::thread::sleep(Duration::from_millis(700));
    }
    browser.wait_for(&contains("#rows", "working-set 132Mi of 256Mi"));
    assert_eq!(width(), 516);
    assert!(
        browser.eval("document.querySelector('.spark polyline').getAttribute('points').split(' ').length >= 3") == true
    );
    let grown = row(&browser, "web");
    assert!(grown.contains("Mi/s") && grown.contains("watching"), "{grown}");
    assert_eq!(browser.text("document.querySelector('#live').textContent"), "", "nothing to say yet");
    what_was_before_is_shown_at_once(&agent);
    world.server.attach(NS, "web", Vec::new());
    world.server.set_removal_delay(Duration::from_secs(600));
    place.group.simulate(170 * MIB, 0);
    browser.wait_for(&contains("#recent", "Evicted"));
    let told = browser.text("document.querySelector('#recent').innerText");
    for part in
        ["demo / web / app", "working-set 170Mi is above the threshold of 153.6Mi", "limit 256Mi", "accepted after"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    browser.wait_for(&contains("#rows", "evicted"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(browser.text("document.querySelector('#live').innerText.trim()"), "Evicted: demo web, container app");
    keep_picture(&browser, "evicted");
    all_is_quiet(&browser, &agent);
}

/// Whoever opens the page later is not told aloud what is long past, but finds it.
pub fn what_is_past_is_shown_and_not_said() {
    let (_world, _places, agent) = world_of_many_states();
    let browser = open(&agent);
    browser.wait_for(&contains("#recent", "Blocked"));
    assert!(browser.eval(&contains("#recent", "Would have been evicted")) == true);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(browser.text("document.querySelector('#live').textContent"), "");
    all_is_quiet(&browser, &agent);
}

/// Since when, and what to do; another agent at the same place is taken up by itself.
pub fn the_agent_goes_away_and_comes_back() {
    let (world, _places, agent) = world_of_many_states();
    let at = agent.address().to_string();
    let browser = open(&agent);
    let requests = || browser.requests().len();
    drop(agent);
    browser.wait_for("!document.querySelector('#away').hidden");
    let since = browser.text("document.querySelector('#away').innerText");
    assert!(since.contains("The agent on node-host does not answer since "), "{since}");
    assert!(since.contains("kubectl get pods -A") && since.contains("spec.nodeName=node-host"), "{since}");
    assert!(row(&browser, "cart").contains("140Mi"), "what was known stays");
    keep_picture(&browser, "error");
    axe(&browser, "error");
    let before = requests();
    std::thread::sleep(Duration::from_secs(8));
    assert!(requests() - before <= 4, "it asks less often: {}", requests() - before);
    assert_eq!(browser.text("document.querySelector('#away').innerText"), since, "said once, not each time");
    let agent = world.agent(&["--listen", &at]);
    browser.wait_for("document.querySelector('#away').hidden");
    browser.wait_for(&contains("#live", "The agent answers again."));
    browser.wait_for("!document.querySelector('#all').classList.contains('stale')");
    let (_, refused): (Vec<_>, Vec<_>) = browser.complaints().into_iter().partition(|c| c.contains("ERR_CONNECTION"));
    assert!(refused.iter().all(|c| c.contains("ERR_")), "nothing but the connection: {refused:?}");
    drop(agent);
}

/// Names, annotations and messages from the cluster are text, whatever is in them.
pub fn hostile_names_are_text() {
    let world = World::simulated();
    // As long as a name can be with what is put before it here.
    let (long, threshold) = ("x".repeat(253 - NS.len()), format!("{PREFIX}memory-usage-threshold"));
    let names = [HOSTILE, RIGHT_TO_LEFT, &long];
    for (i, name) in names.into_iter().enumerate() {
        let mut made = pod(NS, &format!("{i}")).annotation(&threshold, "60").owner("ReplicaSet", name);
        made = made.container(name, "256Mi").container_id(&container_id());
        let mut made = made.build();
        made["metadata"]["name"] = json!(format!("{i}{name}"));
        made["metadata"]["namespace"] = json!(format!("{NS}{name}"));
        world.server.put_pod(made);
    }
    world.place("annotated", Some(LIMIT), |p| p.annotation(&threshold, HOSTILE));
    let blocked = world.guarded("web", LIMIT);
    blocked.group.simulate(200 * MIB, 0);
    let status = json!({"kind": "Status", "code": 500, "message": format!("webhook says {HOSTILE}")});
    world
        .server
        .fault(Fault::on("POST", "/eviction").answer(500, &[("content-type", "application/json")], status).always());
    let agent = world.agent(&[]);
    agent.wait_until("it failed", |a| (!a.told("PreOOMEvictionFailed").is_empty()).then_some(()));
    let browser = open(&agent);
    browser.wait_for(&contains("#recent", "webhook says <img src=x onerror=alert(1)>"));
    for name in names {
        for part in [format!("{NS}{name} · {name}"), format!("ReplicaSet/{name}")] {
            assert!(browser.eval(&contains("#rows", &part)) == true, "{part}");
        }
    }
    assert!(row(&browser, "annotated").contains("<img src=x"), "the annotation in why");
    let foreign = "document.querySelectorAll('img, b, i, a, iframe, script:not(:last-of-type)').length";
    assert_eq!(browser.eval(&format!("{foreign} - document.querySelectorAll('#recent b').length")), 0);
    assert_eq!(browser.eval("document.querySelectorAll('script').length"), 1);
    let fits = "document.documentElement.scrollWidth <= innerWidth";
    for width in [1200, 320] {
        browser.look(width, 900, "light");
        assert!(browser.eval(fits) == true, "nothing runs out of {width} px");
    }
    let isolated = "[...document.querySelectorAll('#rows bdi, #recent bdi')].every(b => getComputedStyle(b).unicodeBidi === 'isolate')";
    assert!(browser.eval(isolated) == true);
    keep_picture(&browser, "hostile-narrow");
    all_is_quiet(&browser, &agent);
}

/// The policy is sent and in force: no script, style, request or markup but the page's own.
pub fn the_policy_is_in_force() {
    let world = World::simulated();
    let agent = world.agent(&[]);
    let browser = open(&agent);
    let headers = "fetch('.').then(r => JSON.stringify(Object.fromEntries(r.headers)))";
    let headers: Value = serde_json::from_str(&browser.text(headers)).expect("headers");
    assert!(headers["content-security-policy"].as_str().is_some_and(|p| p.starts_with("default-src 'none'")));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    let facts = browser.text("fetch('api/guards').then(r => r.headers.get('x-content-type-options'))");
    assert_eq!(facts, "nosniff", "and on the facts");
    all_is_quiet(&browser, &agent);
    for (attack, what) in [
        (
            "const s = document.createElement('script'); s.append('window.ran = 1'); document.body.append(s)",
            "require-trusted-types-for",
        ),
        ("const s = document.createElement('style'); s.append('body{color:red}'); document.head.append(s)", "style"),
        ("const i = new Image(); i.src = 'http://127.0.0.1:9/leak'; document.body.append(i)", "img"),
        ("fetch('http://127.0.0.1:9/leak').catch(() => 0)", "connect"),
    ] {
        let seen = format!(
            "new Promise(done => {{ document.addEventListener('securitypolicyviolation', \
             e => done(e.effectiveDirective), {{ once: true }}); setTimeout(() => done('nothing'), 3000); {attack} }})"
        );
        let directive = browser.text(&seen);
        assert!(directive.starts_with(what), "{what}: {directive}");
    }
    let markup = "try { document.body.innerHTML = '<b>x</b>'; 'made' } catch (e) { e.name }";
    assert_eq!(browser.text(markup), "TypeError", "no markup of strings");
    assert_eq!(browser.eval("window.ran === undefined"), true);
}

/// In light and dark, wide and on a phone: legible, and nothing has to be scrolled sideways.
pub fn it_can_be_read_in_light_dark_and_narrow() {
    let (_world, places, agent) = world_of_many_states();
    let browser = open(&agent);
    for (i, usage) in [142, 144, 146].into_iter().enumerate() {
        places[1].group.simulate(usage * MIB, MIB);
        places[0].group.simulate((38 + i as u64) * MIB, 10 * MIB);
        std::thread::sleep(Duration::from_millis(1200));
    }
    // As if it had been open for five minutes.
    browser.eval(
        "for (const of of past.values()) { const [end, n] = of.at(-1); of.length = 0; \
         for (let i = 300; i >= 0; i--) of.push([end - i * 990, n * (1 - i / 600 + Math.sin(i / 9) / 40)]); }",
    );
    std::thread::sleep(Duration::from_millis(1500));
    for (name, width, height, scheme) in [
        ("light", 1200, 900, "light"),
        ("dark", 1200, 900, "dark"),
        ("narrow", 320, 800, "light"),
        ("narrow-dark", 320, 800, "dark"),
    ] {
        browser.look(width, height, scheme);
        let back = browser.text("getComputedStyle(document.body).backgroundColor");
        assert_eq!(back == "rgb(255, 255, 255)", scheme == "light", "{name}: {back}");
        let scroll = browser.eval("document.documentElement.scrollWidth");
        assert!(scroll.as_u64().is_some_and(|s| s <= u64::from(width)), "{name}: {scroll}");
        axe(&browser, name);
        keep_picture(&browser, name);
    }
    all_is_quiet(&browser, &agent);
}

/// Nobody has opted in: it says how; a dry run of all says so.
pub fn an_empty_node_says_how_to_opt_in() {
    let world = World::simulated();
    let agent = world.agent(&["--dry-run", "client"]);
    let browser = open(&agent);
    let text = browser.text("document.body.innerText");
    for part in [
        "No pod on this node has opted in",
        "pre-oom-killer: enabled",
        "memory-usage-threshold: \"60\"",
        "kubectl get pods -A",
        "Dry run: nothing is evicted, nothing is sent",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    axe(&browser, "empty");
    keep_picture(&browser, "empty");
    // As soon as one has, it is there.
    world.guarded("web", LIMIT).group.simulate(MIB, 0);
    browser.wait_for(&contains("#rows", "web"));
    assert!(browser.eval("document.querySelector('#empty').hidden") == true);
    all_is_quiet(&browser, &agent);
}

/// A list that does not come is not taken for an empty one.
pub fn pods_that_are_not_listed_yet_are_not_none() {
    let world = World::simulated();
    world.server.go_away();
    let agent = Agent::launch(&world.server, world.tree.root(), &[]);
    let browser = open(&agent);
    browser.wait_for(&contains("#note", "not listed yet"));
    assert!(browser.eval("document.querySelector('#empty').hidden") == true);
    all_is_quiet(&browser, &agent);
}

/// Everything can be reached and done with the keys, in the order of the page.
pub fn it_is_used_with_the_keys() {
    let (_world, _places, agent) = world_of_many_states();
    let browser = open(&agent);
    let focus = "document.activeElement.id || document.activeElement.dataset.sort";
    let mut order = Vec::new();
    for _ in 0..7 {
        browser.press("Tab");
        order.push(browser.text(focus));
        assert_ne!(browser.text("getComputedStyle(document.activeElement).outlineStyle"), "none", "the focus is seen");
    }
    assert_eq!(order, ["filter", "pause", "name", "state", "near", "growth", "left"]);
    let first = || browser.text("document.querySelector('#rows bdi').textContent");
    assert_eq!(first(), "ledger-0", "nearest first");
    browser.eval("document.querySelector('[data-sort=name]').focus()");
    browser.press("Enter");
    assert_eq!(first(), "batch-report-28811220-9fzqv");
    assert_eq!(browser.text("document.querySelector('.c1').getAttribute('aria-sort')"), "ascending");
    browser.press("Enter");
    assert_eq!(first(), "typo-0");
    assert_eq!(browser.text(focus), "name", "the focus stays");
    browser.eval("document.querySelector('#filter').focus()");
    browser.write("ledger");
    browser.wait_for("document.querySelectorAll('#rows tr').length === 1");
    assert_eq!(browser.text("document.querySelector('#shown').textContent"), "1 of 6 shown");
    browser.write("xyz");
    browser.wait_for("!document.querySelector('#empty').hidden");
    assert!(browser.text("document.querySelector('#empty').innerText").contains("Nothing here is called “ledgerxyz”"));
    browser.press("Escape");
    browser.wait_for("document.querySelectorAll('#rows tr').length === 6");
    browser.press("Tab");
    browser.press("Enter");
    browser.wait_for(&contains("#updated", "Paused"));
    let before = browser.requests().len();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(browser.requests().len(), before, "a page that pauses asks nothing");
    browser.press("Enter");
    browser.wait_for(&contains("#updated", "Read"));
    all_is_quiet(&browser, &agent);
}

/// Roles and names as assistive software has them, wide and narrow.
pub fn it_is_read_aloud() {
    let (_world, _places, agent) = world_of_many_states();
    let browser = open(&agent);
    browser.wait_for("document.querySelectorAll('#rows .bar[aria-label]').length >= 5");
    for width in [1200, 320] {
        browser.look(width, 900, "light");
        let nodes = browser.accessible();
        let of = |role: &str| nodes.iter().filter(|(r, _)| r == role).map(|(_, n)| n.as_str()).collect::<Vec<_>>();
        assert_eq!(of("table"), ["Guarded containers"], "{width}");
        assert_eq!((of("row").len(), of("rowheader").len()), (7, 6), "{width}: a heading and six pods");
        for button in ["Pause", "Container", "State", "Memory", "Growth", "To threshold"] {
            assert!(of("button").iter().any(|b| b.starts_with(button)), "{width}: {button} in {:?}", of("button"));
        }
        assert_eq!(of("searchbox"), ["Filter"]);
        assert_eq!(
            of("heading"),
            ["pre-oom-killer on node node-host", "Guarded containers", "Recent evictions and misses"]
        );
        let pictures = of("image");
        let bar = "Memory of app: 139Mi, 54 % of the limit, threshold 153.6Mi, limit 256Mi";
        assert!(pictures.contains(&bar), "{width}: {pictures:?}");
        assert!(pictures.iter().any(|p| p.contains("threshold 512Mi, no limit")), "{pictures:?}");
        assert!(pictures.iter().any(|p| p.starts_with("In the last ")), "{pictures:?}");
        assert!(pictures.iter().all(|p| !p.is_empty()), "each has a name: {pictures:?}");
    }
    all_is_quiet(&browser, &agent);
}

/// A page that nobody looks at asks seldom; one that is looked at again asks at once.
pub fn a_hidden_page_asks_seldom() {
    let world = World::simulated();
    let agent = world.agent(&[]);
    let browser = open(&agent);
    let requests = || browser.requests().len();
    let before = requests();
    std::thread::sleep(Duration::from_secs(4));
    let while_seen = requests() - before;
    assert!((2..=4).contains(&while_seen), "once a second: {while_seen}");
    browser.eval("Object.defineProperty(document, 'hidden', { value: true, configurable: true })");
    std::thread::sleep(Duration::from_millis(1500));
    let before = requests();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(requests(), before);
    browser.eval("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(requests(), before + 1);
    all_is_quiet(&browser, &agent);
}

/// axe-core's rules, where `AXE` names its file (leg `page` does): for the test alone, past the page's policy.
fn axe(browser: &Browser, name: &str) {
    let Some(file) = std::env::var_os("AXE") else { return };
    let axe = std::fs::read_to_string(file).expect("axe.min.js");
    browser.eval(&format!("{axe}; 0"));
    let rules = "axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(r => JSON.stringify(r.violations.map(v => \
                 [v.id, v.help, v.nodes.map(n => n.html + ' ' + n.failureSummary)])))";
    let violations = browser.text(rules);
    assert_eq!(violations, "[]", "{name}");
    println!("axe: {name}: no violation");
}
