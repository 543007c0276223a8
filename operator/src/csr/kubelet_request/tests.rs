use super::*;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};
use serde_json::json;

const USER: &str = "system:node:node-1";
const USAGES: [&str; 2] = ["digital signature", "server auth"];

fn csr(pem: &str) -> CertificateSigningRequest {
    use base64::Engine as _;
    serde_json::from_value(json!({
        "metadata": { "name": "csr-1", "uid": "u" },
        "spec": {
            "signerName": SIGNER, "username": USER, "groups": [GROUP, "system:authenticated"], "usages": USAGES,
            "request": base64::engine::general_purpose::STANDARD.encode(pem),
        },
    }))
    .expect("a request")
}

/// Returns a kubelet's request in PEM with a change.
fn pem_of(change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params =
        CertificateParams::new(vec!["node-1".to_owned(), "10.0.0.1".to_owned()]).expect("params");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, GROUP);
    params.distinguished_name.push(DnType::CommonName, USER);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    params.serialize_request(&key).expect("a request").pem().expect("PEM")
}

fn code(csr: &CertificateSigningRequest) -> &'static str {
    KubeletRequest::parse(csr).expect_err("an error").code()
}

fn code_of(change: impl FnOnce(&mut CertificateParams)) -> &'static str {
    code(&csr(&pem_of(change)))
}

fn names(names: &[&str]) -> Vec<SanType> {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        .expect("params")
        .subject_alt_names
}

#[test]
fn parses_a_kubelets_request() {
    let request = KubeletRequest::parse(&csr(&pem_of(|_| {}))).expect("a request");
    assert_eq!(request.node, "node-1");
    assert_eq!(request.dns_names, ["node-1"]);
    assert_eq!(request.addresses, ["10.0.0.1".parse::<IpAddr>().expect("an address")]);

    let six = pem_of(|params| params.subject_alt_names = names(&["2001:db8::1", "Node-1.Example.org"]));
    let request = KubeletRequest::parse(&csr(&six)).expect("a request");
    assert_eq!(request.dns_names, ["node-1.example.org"]);

    let mut rsa = csr(&pem_of(|_| {}));
    rsa.spec.usages =
        Some(["key encipherment", "server auth", "digital signature"].map(str::to_owned).into());
    assert!(KubeletRequest::parse(&rsa).is_ok());
}

/// With `--hostname-override=192.168.0.47`, the Node has an address as its name, and its kubelet requests no DNS name.
#[test]
fn parses_the_request_of_a_node_that_is_named_by_its_address() {
    let csr = super::super::for_test::request("csr-1", "192.168.0.47", &["192.168.0.47"]);
    let request = KubeletRequest::parse(&csr).expect("a request");
    assert_eq!((request.node.as_str(), request.dns_names.len()), ("192.168.0.47", 0));
    assert_eq!(request.addresses, ["192.168.0.47".parse::<IpAddr>().expect("an address")]);
}

#[test]
fn rejects_requesters_other_than_kubelets() {
    let pem = pem_of(|_| {});
    for (user, groups) in [
        (Some("system:node:"), vec![GROUP]),
        (Some("system:nodes:node-1"), vec![GROUP]),
        (Some("system:serviceaccount:kube-system:node-1"), vec![GROUP]),
        (Some("system:node:Node 1"), vec![GROUP]),
        (Some("system:node:../node-1"), vec![GROUP]),
        (Some("admin"), vec![GROUP, "system:masters"]),
        (Some(USER), vec!["system:masters"]),
        (Some(USER), vec![]),
        (None, vec![GROUP]),
    ] {
        let mut csr = csr(&pem);
        csr.spec.username = user.map(str::to_owned);
        csr.spec.groups = Some(groups.into_iter().map(str::to_owned).collect());
        assert_eq!(code(&csr), "requester", "{user:?}");
    }
    let mut other = csr(&pem);
    other.spec.signer_name = "kubernetes.io/kube-apiserver-client-kubelet".to_owned();
    assert_eq!(code(&other), "requester");
}

#[test]
fn rejects_usages_other_than_a_servers() {
    for usages in [
        &["server auth"] as &[&str],
        &["digital signature"],
        &["digital signature", "client auth"],
        &["digital signature", "server auth", "client auth"],
        &["digital signature", "server auth", "cert sign"],
        &["digital signature", "server auth", "any"],
        &["digital signature", "server auth", "server auth"],
        &["Digital Signature", "server auth"],
        &[],
    ] {
        let mut csr = csr(&pem_of(|_| {}));
        csr.spec.usages = Some(usages.iter().map(|usage| (*usage).to_owned()).collect());
        assert_eq!(code(&csr), "usages", "{usages:?}");
    }
}

#[test]
fn rejects_other_subjects() {
    use DnType::{CommonName, OrganizationName, OrganizationalUnitName};
    let subject = |parts: &[(DnType, &str)]| {
        let parts: Vec<_> = parts.iter().map(|(kind, text)| (kind.clone(), (*text).to_owned())).collect();
        code_of(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, text) in parts {
                params.distinguished_name.push(kind, text);
            }
        })
    };
    assert_eq!(subject(&[]), "subject");
    assert_eq!(subject(&[(CommonName, USER)]), "subject");
    assert_eq!(subject(&[(OrganizationName, "system:masters"), (CommonName, USER)]), "subject");
    assert_eq!(subject(&[(OrganizationName, GROUP), (CommonName, "system:node:node-2")]), "subject");
    assert_eq!(subject(&[(OrganizationName, GROUP), (CommonName, "system:node:node-10")]), "subject");
    assert_eq!(
        subject(&[(OrganizationName, GROUP), (CommonName, USER), (OrganizationalUnitName, "x")]),
        "subject"
    );
}

#[test]
fn rejects_other_extensions_and_kinds_of_names() {
    assert_eq!(code_of(|params| params.subject_alt_names.clear()), "extensions");
    assert_eq!(
        code_of(|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        "extensions"
    );
    assert_eq!(code_of(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]), "extensions");
    let other = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    assert_eq!(code_of(|params| params.custom_extensions = vec![other]), "extensions");
    let text = |text: &str| Ia5String::try_from(text).expect("text");
    for name in [SanType::Rfc822Name(text("a@node-1")), SanType::URI(text("spiffe://node-1"))] {
        assert_eq!(code_of(|params| params.subject_alt_names.push(name)), "name");
    }
}

#[test]
fn rejects_names_that_do_not_identify_one_machine() {
    for name in [
        "localhost",
        "node-1.localhost",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "Kubernetes.Default.SVC",
        "10-244-0-7.default.pod.cluster.local",
        "*.example.org",
        "node-1.",
        "node_1",
        "-node",
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(code_of(|params| params.subject_alt_names.extend(names(&[name]))), "name", "{name}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("node-{number}")).collect();
    let many = names(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code_of(|params| params.subject_alt_names = many), "name");
}

#[test]
fn rejects_weak_and_unsupported_keys() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let mut params = CertificateParams::new(vec!["node-1".to_owned()]).expect("params");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, GROUP);
    params.distinguished_name.push(DnType::CommonName, USER);
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    assert_eq!(code(&csr(&pem)), "key");

    for (bits, good) in [(1024, false), (2047, false), (2048, true), (8192, true), (16384, false)] {
        let composed = compose(&[kubelets_attribute()], &rsa(bits), &[]);
        assert_eq!(KubeletRequest::parse(&csr(&composed)).is_ok(), good, "{bits} bits");
    }
}

#[test]
fn rejects_more_than_one_pem_block() {
    let pem = pem_of(|_| {});
    let other = pem_of(|_| {});
    for text in [
        String::new(),
        "nonsense".to_owned(),
        format!("{pem}{other}"),
        format!("{pem}trailing"),
        format!("leading\n{pem}"),
        pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        pem.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        format!("{pem}{}", "\n".repeat(MAX_REQUEST)),
    ] {
        assert_eq!(code(&csr(&text)), "malformed", "{text}");
    }
    assert_eq!(code(&csr(&compose(&[kubelets_attribute()], &rsa(2048), &[0]))), "malformed", "trailing data");
}

/// Each of these has a second set of names that one parser may skip and another may use.
#[test]
fn rejects_ambiguous_encodings() {
    let good = kubelets_attribute();
    assert!(KubeletRequest::parse(&csr(&compose(std::slice::from_ref(&good), &rsa(2048), &[]))).is_ok());

    let evil_names = tlv(der::SEQUENCE, &[&tlv(der::DNS_NAME, &[b"evil"])]);
    let evil_extension =
        tlv(der::SEQUENCE, &[&der::SUBJECT_ALT_NAME, &tlv(der::OCTET_STRING, &[&evil_names])]);
    let evil_value = tlv(der::SEQUENCE, &[&evil_extension]);
    let evil = tlv(der::SEQUENCE, &[&der::EXTENSION_REQUEST, &tlv(der::SET, &[&evil_value])]);

    let good_names = tlv(der::SEQUENCE, &[&tlv(der::DNS_NAME, &[b"node-1"])]);
    let good_extension =
        tlv(der::SEQUENCE, &[&der::SUBJECT_ALT_NAME, &tlv(der::OCTET_STRING, &[&good_names])]);
    let good_value = tlv(der::SEQUENCE, &[&good_extension]);
    let attribute = |values: &[&[u8]]| tlv(der::SEQUENCE, &[&der::EXTENSION_REQUEST, &tlv(der::SET, values)]);
    let names_and_more = tlv(der::OCTET_STRING, &[&good_names, &evil_names]);
    let critical = [0x01, 0x01, 0xff];
    for attributes in [
        vec![good.clone(), evil.clone()],
        vec![evil, good.clone()],
        vec![good.clone(), good],
        vec![attribute(&[&good_value, &evil_value])],
        vec![attribute(&[&tlv(der::SEQUENCE, &[&good_extension, &evil_extension])])],
        vec![attribute(&[&tlv(
            der::SEQUENCE,
            &[&tlv(der::SEQUENCE, &[&der::SUBJECT_ALT_NAME, &names_and_more])],
        )])],
        vec![attribute(&[&tlv(
            der::SEQUENCE,
            &[&tlv(
                der::SEQUENCE,
                &[&der::SUBJECT_ALT_NAME, &critical, &tlv(der::OCTET_STRING, &[&good_names])],
            )],
        )])],
        vec![tlv(
            der::SEQUENCE,
            &[&der::EXTENSION_REQUEST, &tlv(der::SET, &[&good_value]), &tlv(der::SET, &[&evil_value])],
        )],
        vec![],
    ] {
        let csr = csr(&compose(&attributes, &rsa(2048), &[]));
        let code = code(&csr);
        assert!(["extensions", "malformed"].contains(&code), "{code}");
    }
}

/// Returns the attributes of a kubelet's request for `node-1`.
fn kubelets_attribute() -> Vec<u8> {
    let names = tlv(der::SEQUENCE, &[&tlv(der::DNS_NAME, &[b"node-1"])]);
    let extension = tlv(der::SEQUENCE, &[&der::SUBJECT_ALT_NAME, &tlv(der::OCTET_STRING, &[&names])]);
    let value = tlv(der::SET, &[&tlv(der::SEQUENCE, &[&extension])]);
    tlv(der::SEQUENCE, &[&der::EXTENSION_REQUEST, &value])
}

/// Returns a SubjectPublicKeyInfo of RSA with a modulus of `bits`.
fn rsa(bits: usize) -> Vec<u8> {
    let algorithm = tlv(
        der::SEQUENCE,
        &[&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], &[0x05, 0x00]],
    );
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (bits.div_ceil(8) * 8 - bits);
    if modulus[0] & 0x80 != 0 {
        modulus.insert(0, 0);
    }
    let key = tlv(der::SEQUENCE, &[&tlv(0x02, &[&modulus]), &[0x02, 0x03, 0x01, 0x00, 0x01]]);
    tlv(der::SEQUENCE, &[&algorithm, &tlv(0x03, &[&[0], &key])])
}

/// Composes a request of these parts with trailing data. The signature is invalid, as kube-apiserver verifies it.
fn compose(attributes: &[Vec<u8>], key: &[u8], trailing: &[u8]) -> String {
    use base64::Engine as _;
    let part = |oid: &[u8], text: &str| {
        let text = tlv(der::PRINTABLE_STRING, &[text.as_bytes()]);
        tlv(der::SET, &[&tlv(der::SEQUENCE, &[oid, &text])])
    };
    let subject = tlv(der::SEQUENCE, &[&part(&der::ORGANIZATION, GROUP), &part(&der::COMMON_NAME, USER)]);
    let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
    let info = tlv(der::SEQUENCE, &[&der::VERSION_1, &subject, key, &tlv(der::ATTRIBUTES, &attributes)]);
    let algorithm = tlv(
        der::SEQUENCE,
        &[&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &[0x05, 0x00]],
    );
    let request = tlv(der::SEQUENCE, &[&info, &algorithm, &tlv(0x03, &[&[0], &[1; 256]])]);
    let body = base64::engine::general_purpose::STANDARD.encode([request, trailing.to_vec()].concat());
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}

#[test]
fn only_undecided_requests_are_pending() {
    let mut csr = csr(&pem_of(|_| {}));
    assert!(is_pending(&csr));
    for kind in ["Approved", "Denied", "Failed"] {
        csr.status =
            serde_json::from_value(json!({ "conditions": [{ "type": kind, "status": "True" }] })).ok();
        assert!(!is_pending(&csr), "{kind}");
    }
    csr.status = None;
    csr.spec.signer_name = "example.org/other".to_owned();
    assert!(!is_pending(&csr));
}

proptest::proptest! {
    /// For any changed byte, nothing panics, and a request that still parses has the same count of names.
    #[test]
    fn changed_byte_adds_no_name(place in 0_usize..700, value in 0_u8..=255) {
        use base64::Engine as _;
        let pem = compose(&[kubelets_attribute()], &rsa(2048), &[]);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let engine = base64::engine::general_purpose::STANDARD;
        let mut der = engine.decode(body).expect("base64");
        let place = place % der.len();
        der[place] = value;
        let text = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            engine.encode(&der)
        );
        if let Ok(request) = KubeletRequest::parse(&csr(&text)) {
            proptest::prop_assert_eq!(request.node, "node-1");
            proptest::prop_assert_eq!(request.dns_names.len() + request.addresses.len(), 1);
        }
    }
}
