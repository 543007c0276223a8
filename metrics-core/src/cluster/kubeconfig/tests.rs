use kube::config::Kubeconfig;

use super::{KubeletDefaults, for_apiserver, for_kubelets, from_kubeconfig};
use crate::cluster::{Cluster, Error};
use crate::watched_file::Source;

const INLINE: &str = "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], \
    clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /ca, certificate-authority-data: Y2E=}}], \
    users: [{name: u, user: {token: t0ken, client-certificate-data: Y2VydA==, client-key-data: a2V5}}]}";

fn with_user(user: &str) -> String {
    format!(
        "{{current-context: a, contexts: [{{name: a, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: 'https://x'}}}}], users: [{{name: u, user: {user}}}]}}"
    )
}

fn content(source: Option<&Source>) -> Vec<u8> {
    source.expect("a source").read().unwrap()
}

#[test]
fn finds_the_files_of_the_current_context() {
    let config = Kubeconfig::from_yaml(
        "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], \
          clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /ca}}], \
          users: [{name: other, user: {tokenFile: /t}}, {name: u, user: {client-certificate: /crt, client-key: /key}}]}",
    );
    let found = from_kubeconfig(config.unwrap()).unwrap();
    let file = |path: &str| Source::File(path.into());
    assert_eq!(found.ca, Some(file("/ca")));
    assert_eq!(found.token, None);
    assert_eq!(found.client_certificate, Some((file("/crt"), file("/key"))));
    assert_eq!(from_kubeconfig(Kubeconfig::default()).unwrap(), KubeletDefaults::default());
}

#[test]
fn inline_data_take_precedence_and_are_not_shown() {
    let found = from_kubeconfig(Kubeconfig::from_yaml(INLINE).unwrap()).unwrap();
    assert_eq!(content(found.ca.as_ref()), b"ca");
    assert_eq!(content(found.token.as_ref()), b"t0ken");
    let (certificate, key) = found.client_certificate.as_ref().unwrap();
    assert_eq!((content(Some(certificate)), content(Some(key))), (b"cert".to_vec(), b"key".to_vec()));
    let shown = format!("{found:?}");
    assert!(shown.contains("client-key-data of the kubeconfig") && !shown.contains("t0ken"), "{shown}");
}

#[tokio::test]
async fn a_token_file_takes_precedence_over_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, with_user("{token: t, tokenFile: /t}")).unwrap();
    assert_eq!(for_kubelets(Some(&path)).unwrap().token, Some(Source::File("/t".into())));
    let (config, _) = for_apiserver(&path).await.unwrap();
    assert!(config.auth_info.token.is_none(), "kube would prefer it");
    assert_eq!(config.auth_info.token_file.as_deref(), Some("/t"));
}

#[test]
fn an_invalid_key_is_not_quoted() {
    let config =
        Kubeconfig::from_yaml(&with_user("{client-certificate-data: Y2E=, client-key-data: '%secret%'}"));
    let error = from_kubeconfig(config.unwrap()).unwrap_err();
    assert_eq!(error, "client-key-data is not base64");
}

#[tokio::test]
async fn credentials_of_other_programs_are_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    for (user, kind) in [
        ("{exec: {command: aws, apiVersion: client.authentication.k8s.io/v1}}", "exec"),
        ("{auth-provider: {name: gcp, config: {}}}", "auth-provider"),
    ] {
        std::fs::write(&path, with_user(user)).unwrap();
        let errors: [Error; 2] =
            [for_apiserver(&path).await.unwrap_err(), for_kubelets(Some(&path)).unwrap_err()];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.contains(&format!("of type {kind},")) && error.contains("tokenFile"), "{error}");
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_proxy_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let text = with_user("{token: t}").replace("'https://x'", "'https://x', proxy-url: 'http://proxy:3128'");
    std::fs::write(&path, text).unwrap();
    let error = for_apiserver(&path).await.unwrap_err().to_string();
    assert!(error.contains("proxy proxy") && error.contains("proxy-url"), "{error}");
}

#[tokio::test]
async fn relative_files_are_those_beside_the_kubeconfig() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, with_user("{client-certificate: a.crt, client-key: a.key}")).unwrap();
    for file in ["a.crt", "a.key"] {
        std::fs::write(directory.path().join(file), "").unwrap();
    }
    let (_, identity) = for_apiserver(&path).await.unwrap();
    assert_eq!(identity, Some([directory.path().join("a.crt"), directory.path().join("a.key")]));
}

#[tokio::test]
async fn a_kubeconfig_with_inline_data_makes_a_client() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    let data = |text: String| base64::Engine::encode(&super::STANDARD, text);
    let text = INLINE
        .replace("Y2VydA==", &data(certificate.pem()))
        .replace("a2V5", &data(key.serialize_pem()))
        .replace("Y2E=", &data(certificate.pem()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    let cluster = Cluster::new(Some(&path), &mut tasks).await.unwrap();
    assert!(cluster.client().is_ok());
    assert!(tasks.is_empty(), "there is no file to follow");
}
