// certificates makes certificates for many situations and writes what Go's crypto/x509 says of each, one JSON object in
// a line. With -mutants, it changes the certificates at random. The tests in tests/interop compare it with metrics-core.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
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
	// Mutation is what was changed at random.
	Mutation string `json:"mutation"`
}

func main() {
	mutants := flag.Int("mutants", 0, "how many situations to change at random")
	seed := flag.Uint64("seed", 1, "the seed of the changes; keys and signatures are always new")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	write := func(verdict verdict) {
		if err := encoder.Encode(verdict); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if *mutants > 0 {
		mutate(*mutants, *seed, write)
	} else {
		all(write)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// all judges each situation.
func all(write func(verdict)) {
	for _, group := range groups() {
		for _, one := range group.situations {
			for _, purpose := range []purpose{client, server} {
				write(judge(group.name, one.name, purpose, one.make(purpose)))
			}
		}
	}
}

// mutate judges situations with changes.
func mutate(count int, seed uint64, write func(verdict)) {
	type choice struct {
		group        string
		scenario     scenario
		certificates map[string]int
	}
	var choices []choice
	counter := &mutator{signed: -1, whole: -1}
	for _, group := range groups() {
		for _, one := range group.situations {
			certificates := map[string]int{}
			for _, purpose := range []purpose{client, server} {
				counter.issued = 0
				mutations = counter
				one.make(purpose)
				mutations = nil
				certificates[purpose.name] = counter.issued
			}
			choices = append(choices, choice{group.name, one, certificates})
		}
	}
	mutator := &mutator{Rand: rand.New(rand.NewPCG(seed, 0))}
	for range count {
		choice := choices[mutator.IntN(len(choices))]
		purpose := []purpose{client, server}[mutator.IntN(2)]
		if choice.certificates[purpose.name] == 0 {
			continue
		}
		made := mutator.mutate(choice.scenario, purpose, choice.certificates[purpose.name])
		verdict := judge(choice.group, choice.scenario.name, purpose, made)
		verdict.Mutation = strings.Join(mutator.did, "; ")
		write(verdict)
	}
}

func judge(group, name string, purpose purpose, made situation) verdict {
	verdict := verdict{
		Group: group, Name: name, Purpose: purpose.name,
		Bundle: string(made.bundle), Chain: made.chain, Host: made.host,
	}
	for at := range verdict.Chain {
		if verdict.Chain[at] == nil {
			verdict.Chain[at] = []byte{}
		}
	}
	leaf, err := verify(made, purpose)
	if err != nil {
		verdict.Error = err.Error()
	} else {
		verdict.User, verdict.Groups = leaf.Subject.CommonName, leaf.Subject.Organization
	}
	return verdict
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
