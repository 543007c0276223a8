// certificates makes certificates for many situations and writes what Go's crypto/x509 says of each, as JSON. The
// test tests/interop.rs compares it with metrics-core.
package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// verdict is a situation for one purpose, and Go's verdict.
type verdict struct {
	Group   string   `json:"group"`
	Name    string   `json:"name"`
	Purpose string   `json:"purpose"`
	Bundle  string   `json:"bundle"`
	Chain   [][]byte `json:"chain"`
	Host    string   `json:"host"`
	// Error is empty if the chain is accepted.
	Error  string   `json:"error"`
	User   string   `json:"user"`
	Groups []string `json:"groups"`
}

func main() {
	var verdicts []verdict
	for _, group := range groups() {
		for _, one := range group.situations {
			for _, purpose := range []purpose{client, server} {
				made := one.make(purpose)
				verdict := verdict{
					Group: group.name, Name: one.name, Purpose: purpose.name,
					Bundle: string(made.bundle), Chain: made.chain, Host: made.host,
				}
				leaf, err := verify(made, purpose)
				if err != nil {
					verdict.Error = err.Error()
				} else {
					verdict.User, verdict.Groups = leaf.Subject.CommonName, leaf.Subject.Organization
				}
				verdicts = append(verdicts, verdict)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// verify does what Kubernetes does: for clients as the x509 authenticator of k8s.io/apiserver, for servers as client-go.
func verify(made situation, purpose purpose) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	if purpose.name == client.name {
		// k8s.io/client-go/util/cert.ParseCertsPEM fails if one certificate is invalid.
		found := false
		for rest := made.bundle; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
				continue
			}
			root, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("bundle: %w", err)
			}
			roots.AddCert(root)
			found = true
		}
		if !found {
			return nil, errors.New("bundle: no certificate")
		}
	} else if !roots.AppendCertsFromPEM(made.bundle) {
		return nil, errors.New("bundle: no certificate")
	}
	// crypto/tls fails the handshake if one certificate can't be parsed.
	intermediates := x509.NewCertPool()
	var leaf *x509.Certificate
	for at, der := range made.chain {
		certificate, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return nil, fmt.Errorf("certificate %d: %w", at+1, err)
		case at == 0:
			leaf = certificate
		default:
			intermediates.AddCert(certificate)
		}
	}
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{purpose.usage},
	}
	if purpose.name == server.name {
		options.DNSName = made.host
	}
	_, err := leaf.Verify(options)
	return leaf, err
}
