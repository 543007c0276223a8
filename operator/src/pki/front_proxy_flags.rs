//! kube-apiserver's flags for the front proxy, in formats that can be copied without changes.
//!
//! The formats avoid quoting errors: kube-apiserver accepts one argument that contains the next two flags, and then
//! reads no user name. No value contains a space, quote or comma, and each format has one entry per argument.

use std::fmt::Write as _;

/// The inputs of the flags.
#[derive(Clone, Copy, Debug)]
pub struct FrontProxyFlags<'a> {
    /// The client certificate's common name.
    pub common_name: &'a str,
    /// The directory of the files on control-plane nodes.
    pub directory: &'a str,
    /// The namespace of the Secret.
    pub namespace: &'a str,
    /// The Secret's name.
    pub secret: &'a str,
}

/// The environment variable of the systemd drop-in.
const VARIABLE: &str = "FRONT_PROXY_FLAGS";

/// The files: the key in the Secret and the suffix of the file name on the nodes.
const FILES: [(&str, &str); 3] =
    [("ca.crt", "front-proxy-ca.crt"), ("tls.crt", "front-proxy.crt"), ("tls.key", "front-proxy.key")];

impl FrontProxyFlags<'_> {
    fn path(&self, file: &str) -> String {
        format!("{}/metrics-core-{file}", self.directory)
    }

    /// Returns the flags' names and values, in order.
    #[must_use]
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let [ca, certificate, key] = FILES.map(|(_, file)| self.path(file));
        vec![
            ("requestheader-client-ca-file", ca),
            ("requestheader-allowed-names", self.common_name.to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("proxy-client-cert-file", certificate),
            ("proxy-client-key-file", key),
        ]
    }

    /// Returns the arguments, `--name=value`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.flags().into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// Returns the arguments, one per line.
    #[must_use]
    pub fn lines(&self) -> String {
        self.arguments().iter().fold(String::new(), |text, argument| text + argument + "\n")
    }

    /// Returns the arguments as a JSON array, which is also a YAML list, as in a static pod's `command`.
    #[must_use]
    pub fn json(&self) -> String {
        let arguments: Vec<_> = self
            .arguments()
            .into_iter()
            .map(|argument| serde_json::Value::String(argument).to_string())
            .collect();
        format!("[\n  {}\n]\n", arguments.join(",\n  "))
    }

    /// Returns the part of kubeadm's ClusterConfiguration.
    #[must_use]
    pub fn kubeadm(&self) -> String {
        let mut text = "# Merge this into kubeadm's ClusterConfiguration (`kubectl get configmap kubeadm-config\n\
             # --namespace kube-system -o yaml`). Then run `kubeadm init phase control-plane apiserver --config FILE` on each\n\
             # control-plane node. The pod mounts /etc/kubernetes/pki. Another directory needs extraVolumes.\n\
             apiVersion: kubeadm.k8s.io/v1beta4\n\
             kind: ClusterConfiguration\n\
             apiServer:\n  extraArgs:\n"
            .to_owned();
        for (name, value) in self.flags() {
            let value = serde_json::Value::String(value);
            // Writing to a String does not fail.
            _ = writeln!(text, "    - name: {name}\n      value: {value}");
        }
        text
    }

    /// Returns a systemd drop-in for kube-apiserver's unit.
    #[must_use]
    pub fn systemd(&self) -> String {
        format!(
            "# /etc/systemd/system/kube-apiserver.service.d/50-front-proxy.conf\n\
             # Append ${VARIABLE} to the unit's ExecStart once (systemctl edit --full kube-apiserver), without quotes, so that\n\
             # systemd passes each word as one argument. Remove flags with these names from ExecStart.\n\
             [Service]\n\
             Environment=\"{VARIABLE}={}\"\n",
            self.arguments().join(" ")
        )
    }

    /// Returns the instructions for administrators.
    #[must_use]
    pub fn steps(&self) -> String {
        let Self { namespace, secret, directory, .. } = self;
        let mut text = format!(
            "1. On every control-plane node, write the files to {directory}:\n\n\
                umask 077\n"
        );
        for (key, file) in FILES {
            let path = self.path(file);
            _ = writeln!(
                text,
                "   kubectl get secret {secret} --namespace {namespace} --output go-template='{{{{index .data \"{key}\" | base64decode}}}}' > {path}"
            );
        }
        text.push_str(
            "\n2. Set the arguments of kube-apiserver. flags.txt has one argument per line. flags.json has the same as a JSON and YAML\n   \
             list, for the command of a static pod. kubeadm.yaml and systemd.conf are for kubeadm and systemd. Replace flags with\n   \
             the same names.\n\
             3. Restart kube-apiserver. If the flags are already set and only the files are new, no restart is needed:\n   \
             kube-apiserver reloads the files within about a minute.\n\
             4. During a CA rollover, write the files twice: now, and when the condition CertificatesReady reports that the new CA\n   \
             signs.\n\n\
             kube-apiserver merges its flags into ConfigMap kube-system/extension-apiserver-authentication: values of previous flags\n\
             remain. Delete that ConfigMap after the restart. kube-apiserver recreates it with the current flags only.\n",
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: FrontProxyFlags<'_> = FrontProxyFlags {
        common_name: "aggregator",
        directory: "/etc/kubernetes/pki",
        namespace: "ns",
        secret: "metrics-core-front-proxy",
    };

    #[test]
    fn returns_the_arguments_of_kube_apiserver() {
        assert_eq!(
            PROXY.arguments(),
            [
                "--requestheader-client-ca-file=/etc/kubernetes/pki/metrics-core-front-proxy-ca.crt",
                "--requestheader-allowed-names=aggregator",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-username-headers=X-Remote-User",
                "--proxy-client-cert-file=/etc/kubernetes/pki/metrics-core-front-proxy.crt",
                "--proxy-client-key-file=/etc/kubernetes/pki/metrics-core-front-proxy.key",
            ]
        );
        let safe = |c: char| c.is_ascii_alphanumeric() || "-=/._:".contains(c);
        assert!(PROXY.arguments().iter().all(|argument| argument.chars().all(safe)), "nothing to quote");
    }

    #[test]
    fn every_format_has_one_entry_per_argument() {
        let arguments = PROXY.arguments();
        assert_eq!(PROXY.lines().lines().collect::<Vec<_>>(), arguments);
        assert_eq!(serde_json::from_str::<Vec<String>>(&PROXY.json()).expect("JSON"), arguments);
        let kubeadm = PROXY.kubeadm();
        for (name, value) in PROXY.flags() {
            assert!(
                kubeadm.contains(&format!("    - name: {name}\n      value: \"{value}\"\n")),
                "{kubeadm}"
            );
        }
        // systemd splits at spaces.
        let systemd = PROXY.systemd();
        let line = systemd.lines().find_map(|line| line.strip_prefix("Environment=\"FRONT_PROXY_FLAGS="));
        let words: Vec<_> =
            line.and_then(|line| line.strip_suffix('"')).expect("a variable").split(' ').collect();
        assert_eq!(words, arguments);
        let first = "   kubectl get secret metrics-core-front-proxy --namespace ns --output go-template='{{index .data \"ca.crt\" | \
                     base64decode}}' > /etc/kubernetes/pki/metrics-core-front-proxy-ca.crt";
        assert!(PROXY.steps().contains(first), "{}", PROXY.steps());
    }
}
