//! ConfigMap extension-apiserver-authentication.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use metrics_core::authenticate::trust::FromConfigMap;

fuzz_target!(|input: &str| {
    let keys = [
        "requestheader-allowed-names",
        "requestheader-username-headers",
        "requestheader-group-headers",
        "requestheader-extra-headers-prefix",
        "requestheader-uid-headers",
        "client-ca-file",
        "requestheader-client-ca-file",
    ];
    let data: BTreeMap<_, _> =
        keys.into_iter().map(str::to_owned).zip(input.split('\0').map(str::to_owned)).collect();
    let (read, findings) = FromConfigMap::default().read(&data);
    findings.iter().for_each(|finding| assert!(!finding.to_string().is_empty()));
    // What was good stays good.
    assert_eq!(read.read(&data).0, read);
});
