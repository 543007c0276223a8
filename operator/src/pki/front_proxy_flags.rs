//! kube-apiserver's flags for the front proxy, in forms that can be taken over as they stand.
//!
//! The fault to be avoided is quoting: one argument that swallows the next two is legal to kube-apiserver and
//! leaves an aggregation layer that reads no user name. No value here has a blank, a quote or a comma, and each form
//! holds each argument by itself.

use std::fmt::Write as _;

/// What the flags are made of.
#[derive(Clone, Copy, Debug)]
pub struct FrontProxy<'a> {
    /// The client certificate's common name.
    pub common_name: &'a str,
    /// Where the files stand on control-plane nodes.
    pub directory: &'a str,
    /// The namespace of the Secret.
    pub namespace: &'a str,
    /// The Secret's name.
    pub secret: &'a str,
}

/// The variable of the systemd drop-in.
const VARIABLE: &str = "FRONT_PROXY_FLAGS";

/// The files: the Secret's key, and the name on the nodes.
const FILES: [(&str, &str); 3] =
    [("ca.crt", "front-proxy-ca.crt"), ("tls.crt", "front-proxy.crt"), ("tls.key", "front-proxy.key")];

impl FrontProxy<'_> {
    fn path(&self, file: &str) -> String {
        format!("{}/metrics-core-{file}", self.directory)
    }

    /// Names and values, in order.
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

    /// The arguments, each one exactly as kube-apiserver shall get it.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.flags().into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// One argument a line.
    #[must_use]
    pub fn lines(&self) -> String {
        self.arguments().iter().fold(String::new(), |text, argument| text + argument + "\n")
    }

    /// A JSON array of the arguments, which is a YAML list too: of a static pod's `command`, for one.
    #[must_use]
    pub fn json(&self) -> String {
        let arguments: Vec<_> = self
            .arguments()
            .into_iter()
            .map(|argument| serde_json::Value::String(argument).to_string())
            .collect();
        format!("[\n  {}\n]\n", arguments.join(",\n  "))
    }

    /// kubeadm's ClusterConfiguration.
    #[must_use]
    pub fn kubeadm(&self) -> String {
        let mut text = "# Into kubeadm's ClusterConfiguration, beside what stands there (`kubectl get configmap kubeadm-config\n\
             # --namespace kube-system -o yaml`); then `kubeadm init phase control-plane apiserver --config FILE` on each\n\
             # control-plane node. The pod sees /etc/kubernetes/pki; another directory needs extraVolumes.\n\
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

    /// A drop-in for a kube-apiserver that systemd runs.
    #[must_use]
    pub fn systemd(&self) -> String {
        format!(
            "# /etc/systemd/system/kube-apiserver.service.d/50-front-proxy.conf\n\
             # Once, append ${VARIABLE} to the unit's ExecStart (systemctl edit --full kube-apiserver), without quotes: systemd\n\
             # then makes one argument of each word. Remove flags of these names from ExecStart.\n\
             [Service]\n\
             Environment=\"{VARIABLE}={}\"\n",
            self.arguments().join(" ")
        )
    }

    /// What to do with all this.
    #[must_use]
    pub fn steps(&self) -> String {
        let Self { namespace, secret, directory, .. } = self;
        let mut text = format!(
            "1. On every control-plane node, write the files into {directory}:\n\n\
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
            "\n2. Give kube-apiserver the arguments: flags.txt has one a line; flags.json has the same as a JSON and YAML list, for the\n   \
             command of a static pod; kubeadm.yaml and systemd.conf are for those. Replace flags of the same names.\n\
             3. Restart kube-apiserver. Where the flags are there already and only the files are new, no restart is needed:\n   \
             kube-apiserver reads them again within a minute or so.\n\
             4. When the CA is being replaced, write the files twice: now, and when the condition CertificatesReady says that the\n   \
             new CA signs.\n\n\
             What kube-apiserver publishes in ConfigMap kube-system/extension-apiserver-authentication is merged: values of earlier\n\
             flags stay there. Delete that ConfigMap after the restart, and kube-apiserver writes today's flags alone.\n",
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: FrontProxy<'_> = FrontProxy {
        common_name: "aggregator",
        directory: "/etc/kubernetes/pki",
        namespace: "ns",
        secret: "metrics-core-front-proxy",
    };

    #[test]
    fn the_arguments_are_these() {
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
    fn every_form_holds_every_argument_by_itself() {
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
        // systemd splits at blanks.
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
