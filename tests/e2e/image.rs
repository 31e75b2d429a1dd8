//! The image, as a kubelet would run it: `tests/deploy/image` builds it and says where its root is.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Completion;
use standin::Standin;
use standin::cgroups::Tree;

use crate::agent::{Agent, NODE, soon};
use crate::world::{MIB, World};

/// Where the DaemonSet mounts the host's /sys/fs/cgroup.
const CGROUP: &str = "/host/sys/fs/cgroup";
const LIMIT: u64 = 64 * MIB;

/// Makes of the image's root a container's, as a runtime does it: a copy with the mount points, /proc, the
/// service account's files and the host's cgroups, all read-only. What it is told comes from the environment.
const CONTAINER: &str = r#"
    set -e
    container=/mnt
    account=$container/var/run/secrets/kubernetes.io/serviceaccount
    mount -t tmpfs -o mode=755 none "$container"
    cp -a "$IMAGE_ROOT/." "$container"
    mkdir -p "$account" "$container/proc" "$container$CGROUP"
    printf %s "$TOKEN" >"$account/token" && printf %s "$AUTHORITY" | base64 -d >"$account/ca.crt"
    printf pre-oom-killer >"$account/namespace"
    mount -t proc none "$container/proc"
    mount --rbind /sys/fs/cgroup "$container$CGROUP"
    # Innermost first; /proc stays as it is.
    awk -v at="$container" '$5 == at || index($5, at "/host/") == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount; do mount -o remount,bind,ro "$mount"; done
    unset TOKEN AUTHORITY CGROUP
    exec setpriv --no-new-privs chroot --userspec="$IMAGE_USER" "$container" "$@"
"#;

/// The entry point saves a real container, as the image's user and with nothing but what the DaemonSet gives it.
pub fn it_saves_a_container() -> Completion {
    let Some(root) = std::env::var_os("IMAGE_ROOT") else {
        return Completion::ignored_with("needs an image: tests/deploy/image builds one and runs this");
    };
    let user = std::env::var("IMAGE_USER").expect("IMAGE_USER beside IMAGE_ROOT");
    let entry_point = std::env::var("IMAGE_ENTRYPOINT").expect("IMAGE_ENTRYPOINT beside IMAGE_ROOT");
    let world = World { server: Standin::start_tls(), tree: Tree::real().expect("a memory controller") };
    let place = world.guarded("web", LIMIT);
    let agent = start(&world.server, Path::new(&root), &user, &entry_point);
    assert_confined(&agent, &user);
    agent.wait_state("web", "app", "watching");
    let mut hog = place.hog();
    hog.ramp(2 * LIMIT, LIMIT / 4);
    assert_eq!(hog.wait(soon()).expect("the hog ends").signal(), Some(15), "by SIGTERM, before the kernel's SIGKILL");
    assert_eq!(place.group.oom_kills(), 0);
    assert_eq!(world.wait_evictions(1)[0].header("authorization"), Some("Bearer"));
    agent.wait_told("PreOOMEvicted");
    Completion::Completed
}

fn start(server: &Standin, root: &Path, user: &str, entry_point: &str) -> Agent {
    let address = server.address();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", CONTAINER, "sh"])
        .args(entry_point.split_whitespace())
        .arg(format!("--cgroup-root={CGROUP}"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // For the script alone.
        .env("IMAGE_ROOT", root)
        .env("IMAGE_USER", user)
        .env("CGROUP", CGROUP)
        .env("TOKEN", server.token())
        .env("AUTHORITY", server.authority().expect("TLS"))
        // What kubelet sets.
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string())
        // What the DaemonSet sets: the downward API, and its flags.
        .env("NODE_NAME", NODE)
        .env("POD_NAME", "pre-oom-killer-x7k2p")
        .env("POD_UID", crate::world::uid())
        .env("POD_NAMESPACE", "pre-oom-killer")
        .env("PRE_OOM_KILLER_LISTEN", "127.0.0.1:0")
        .env("PRE_OOM_KILLER_LOG_FORMAT", "json");
    let agent = Agent::run(command, None);
    agent.wait_until("ready", |a| (a.get("/readyz").0 == 200).then_some(()));
    agent
}

/// Another user, no capability, and nothing that it sees can be written.
fn assert_confined(agent: &Agent, user: &str) {
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", agent.pid())).expect("it runs");
    let (uid, _) = user.split_once(':').expect("uid:gid");
    let status = of("status");
    for line in
        [&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"), "Groups:\t ", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.lines().any(|l| l == line), "{line:?} is not in\n{status}");
    }
    // As it sees them: those below its root.
    let mounts = of("mountinfo");
    let mut cgroups = 0;
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        cgroups += usize::from(fields[4].starts_with(CGROUP));
        assert!(fields[4] == "/proc" || fields[5].split(',').any(|o| o == "ro"), "{mount}");
    }
    assert!(cgroups > 0, "{mounts}");
}
