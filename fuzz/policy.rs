//! The policy: whatever it approves satisfies every hard rule, checked in the JSON that would go to
//! the engine.

use docker::ContainerSpec;
use protocol::{Isolation, Preset};
use sandbox::policy::{CELL_SECCOMP, MemoryOverheads, SandboxPlan, approve, build};
use serde_json::{Value, json};

/// A plan with changes that the input chooses.
fn spec(data: &[u8]) -> ContainerSpec {
    let cell = data.first().is_some_and(|byte| byte & 1 == 1);
    let mut spec = build(&SandboxPlan {
        image_id: "sha256:0".to_owned(),
        instance: "test-1".to_owned(),
        profile: "python".to_owned(),
        slot: 0,
        uid: 52_000,
        isolation: if cell { Isolation::Cell } else { Isolation::Split },
        runtime: None,
        apparmor: None,
        limits: Preset::Judge.limits(),
        overheads: MemoryOverheads::default(),
        network_disabled: true,
    });
    let words = [
        "",
        "0:0",
        "0",
        "1000:0",
        "0:1000",
        "52000:52000",
        "999:1000",
        "65534:65534",
        "-1:1000",
        "root",
        "host",
        "private",
        "container:x",
        "none",
        "bridge",
        "ALL",
        "SETUID",
        "SYS_ADMIN",
        "cap_setuid",
        "no-new-privileges",
        "no-new-privileges=false",
        "no-new-privileges:false",
        "seccomp=unconfined",
        "seccomp:unconfined",
        "apparmor=unconfined",
        "apparmor=x",
        "label=disable",
        "systempaths=unconfined",
        "writable-cgroups=true",
        "/var/run/docker.sock:/s",
        "/",
        "/box",
        "/tmp",
        "/proc",
        "json-file",
        "sha256:1",
        "python:latest",
        "/.assay/init",
        "sh",
    ];
    for step in data.chunks_exact(2).skip(1) {
        let word = words[usize::from(step[1]) % words.len()].to_owned();
        let number = i64::from(step[1]) - 3;
        let flag = step[1] & 1 == 1;
        let host = &mut spec.host_config;
        match step[0] % 34 {
            0 => host.privileged = flag,
            1 => host.network_mode = word,
            2 => host.pid_mode = word,
            3 => host.ipc_mode = word,
            4 => host.uts_mode = word,
            5 => host.userns_mode = word,
            6 => host.cgroupns_mode = word,
            7 => host.binds.push(word),
            8 => host.devices.push(json!(word)),
            9 => host.readonly_rootfs = flag,
            10 => host.cap_add.push(word),
            11 => host.cap_drop.clear(),
            12 => host.cap_drop.push(word),
            13 => host.security_opt.push(word),
            14 => host.security_opt.retain(|_| flag),
            15 => spec.user = word,
            16 => host.memory = number << 27,
            17 => host.memory_swap = number << 27,
            18 => host.nano_cpus = number * 100_000_000,
            19 => host.pids_limit = number * 64,
            20 => host.log_config.kind = word,
            21 => spec.open_stdin = flag,
            22 => spec.stdin_once = flag,
            23 => host.auto_remove = flag,
            24 => spec.image = word,
            25 => spec.labels.clear(),
            26 => host.masked_paths = flag.then(|| vec![word]),
            27 => host.readonly_paths = flag.then(Vec::new),
            28 => spec.entrypoint = vec![word],
            29 => spec.cmd.push(word),
            30 => drop(host.tmpfs.insert(word, String::new())),
            31 => host.cap_add.retain(|_| flag),
            32 => host.memory_swap = host.memory,
            _ => host.security_opt.push(format!("seccomp={}", if flag { CELL_SECCOMP } else { "{}" })),
        }
    }
    spec
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The target; see the head of this file.
pub fn policy(data: &[u8]) {
    let Ok(approved) = approve(spec(data)) else { return };
    let json = serde_json::to_value(approved.spec()).expect("a spec is JSON");
    let host = &json["HostConfig"];
    let user = json["User"].as_str().unwrap_or_default();
    let plain = user.split_once(':').is_some_and(|(uid, gid)| {
        [uid, gid].iter().all(|id| id.parse::<u32>().is_ok_and(|id| (1000..65_534).contains(&id)))
    });
    assert!(user == "0:0" || plain, "{user}");
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!([&host["PidMode"], &host["UTSMode"], &host["UsernsMode"]], [""; 3]);
    assert_eq!([&host["IpcMode"], &host["CgroupnsMode"]], ["private"; 2]);
    assert!(texts(&host["Binds"]).is_empty() && host["Devices"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(host["ReadonlyRootfs"], true);
    assert!(texts(&host["CapDrop"]).contains(&"ALL"));
    let caps = texts(&host["CapAdd"]);
    assert!(caps.iter().all(|cap| !plain && ["SETUID", "SETGID", "KILL"].contains(cap)), "{caps:?}");
    let options = texts(&host["SecurityOpt"]);
    assert!(options.contains(&"no-new-privileges"));
    for option in options {
        let sound = option == "no-new-privileges"
            || plain && option.strip_prefix("seccomp=") == Some(CELL_SECCOMP)
            || option.strip_prefix("apparmor=").is_some_and(|name| !name.is_empty() && name != "unconfined");
        assert!(sound, "{option}");
    }
    assert!(plain || (host.get("MaskedPaths").is_none() && host.get("ReadonlyPaths").is_none()));
    let number = |name: &str| host[name].as_i64().unwrap_or(-1);
    assert!((1..=(2048 + 8) << 20).contains(&number("Memory")) && number("MemorySwap") == number("Memory"));
    assert!((1..=2_000_000_000).contains(&number("NanoCpus")) && (1..=1024 + 8).contains(&number("PidsLimit")));
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert_eq!([&json["OpenStdin"], &json["StdinOnce"], &host["AutoRemove"]], [true; 3]);
    assert!(json["Image"].as_str().is_some_and(|image| image.starts_with("sha256:")));
    assert!(json["Labels"]["assay.instance"].as_str().is_some_and(|owner| !owner.is_empty()));
    assert_eq!((texts(&json["Entrypoint"]), texts(&json["Cmd"])), (vec!["/.assay/init"], vec![]));
    let covered = host["Tmpfs"].as_object().expect("tmpfs");
    assert!(covered.keys().all(|path| path == "/box" || path == "/tmp"));
}
