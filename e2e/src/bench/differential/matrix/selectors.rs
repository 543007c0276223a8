//! Requests with label and field selectors.

use super::{BASE, JSON, Matrix, PROTOBUF, TABLE};

pub(super) fn selectors(matrix: &mut Matrix) {
    for selector in [
        "app=web",
        "app==web",
        "app!=web",
        "app%20in%20(web,job)",
        "app%20in%20(web)",
        "app%20notin%20(web)",
        "app",
        "!app",
        "app=web,tier=front",
        "app=web,tier!=front",
        "app=,tier",
        "example.com/owner=team-b",
        "version=v1.2",
        "app=none-such",
        "",
        "%20app%20=%20web%20",
        "app%20in%20()",
        "app%20in%20(,web)",
        "app%3Dweb%2Ctier",
        "app%3E1",
        "version%3C2",
        // Invalid selectors.
        "!",
        "app%20in%20web",
        "app%20in%20(web",
        "=web",
        ",",
        "app=web,",
        "app=-bad-",
        "a/b/c=d",
        "UPPER.case/x=y",
        "app=a%20b",
        "app%20inn%20(web)",
        "app=web;tier=front",
        "app%3E%3Dx",
        "app%3Ex",
        "%00",
        "app=%C3%A9",
    ] {
        matrix.get(&format!("{BASE}/pods?labelSelector={selector}"), JSON);
    }
    for selector in ["fleet=fake", "fleet!=fake", "kubernetes.io/hostname=fake-a", "fleet%20in%20(x)"] {
        for accept in [JSON, TABLE, PROTOBUF] {
            matrix.get(&format!("{BASE}/nodes?labelSelector={selector}"), accept);
        }
    }
    for selector in [
        "metadata.name=web-0",
        "metadata.name==web-0",
        "metadata.name!=web-0",
        "metadata.namespace=team-a",
        "metadata.namespace!=team-a",
        "metadata.name=web-0,metadata.namespace=team-a",
        "metadata.name=web-0,metadata.namespace=team-b",
        "metadata.name=",
        "",
        // Invalid selectors.
        "spec.nodeName=fake-a",
        "status.phase=Running",
        "metadata.labels=x",
        "metadata.name",
        "=",
        ",",
        "metadata.name=a,",
        "metadata.name=a%5C,b",
        "metadata.name%20in%20(a)",
        "%20metadata.name%20=%20web-0",
    ] {
        matrix.get(&format!("{BASE}/pods?fieldSelector={selector}"), JSON);
        matrix.get(&format!("{BASE}/namespaces/team-a/pods?fieldSelector={selector}"), JSON);
    }
    for selector in
        ["metadata.name=fake-a", "metadata.name!=fake-a", "metadata.namespace=x", "spec.unschedulable=true"]
    {
        matrix.get(&format!("{BASE}/nodes?fieldSelector={selector}"), JSON);
    }
    matrix.get(&format!("{BASE}/pods?labelSelector=app%3Dweb&fieldSelector=metadata.name%3Dweb-1"), JSON);
    matrix.get(&format!("{BASE}/pods?labelSelector=app%3Dweb&labelSelector=app%3Djob"), JSON);
    // Selectors do not apply to a request for one object.
    matrix.get(&format!("{BASE}/nodes/fake-a?labelSelector=a%3Db"), JSON);
    matrix.get(&format!("{BASE}/nodes/fake-a?labelSelector=!"), JSON);
}
