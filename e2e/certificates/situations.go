package main

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// situation is a CA bundle in PEM and a chain, the end entity's certificate first.
type situation struct {
	bundle []byte
	chain  [][]byte
	host   string
}

type group struct {
	name       string
	situations []scenario
}

type scenario struct {
	name string
	make func(purpose) situation
}

const host = "node-1.example.com"

func pemOf(list ...entity) []byte {
	var all bytes.Buffer
	for _, one := range list {
		if err := pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: one.der}); err != nil {
			panic(err)
		}
	}
	return all.Bytes()
}

func bundle(list ...entity) []byte { return pemOf(list...) }

// with returns a situation with this bundle and chain.
func with(bundle []byte, chain ...entity) situation {
	made := situation{bundle: bundle, host: host}
	for _, one := range chain {
		made.chain = append(made.chain, one.der)
	}
	return made
}

// root makes a self-signed CA.
func root(options ...option) entity {
	usual := []option{subject(named("a root CA")), isCA(true), keyUsage(keyCertSign)}
	return issue(nil, append(usual, options...)...)
}

// sub makes an intermediate CA.
func sub(issuer entity, common string, options ...option) entity {
	usual := []option{subject(named(common)), isCA(true), keyUsage(keyCertSign)}
	return issue(&issuer, append(usual, options...)...)
}

func usualLeaf(p purpose) []option {
	return []option{
		subject(name(attribute(organization, utf8, "dev"), attribute(commonName, utf8, "jane"))),
		keyUsage(digitalSignature), usages(p.oid), alternativeNames(dns(host), ip("10.0.0.1")),
	}
}

func leaf(p purpose, issuer entity, options ...option) entity {
	return issue(&issuer, append(usualLeaf(p), options...)...)
}

func selfSigned(p purpose, options ...option) entity {
	return issue(nil, append(usualLeaf(p), options...)...)
}

// leafBut is a usual CA and a certificate of it with changes.
func leafBut(name string, options ...option) scenario {
	return scenario{name, func(p purpose) situation {
		ca := root()
		return with(bundle(ca), leaf(p, ca, options...))
	}}
}

// rootBut is a CA with changes that signs a usual certificate.
func rootBut(name string, options ...option) scenario {
	return scenario{name, func(p purpose) situation {
		ca := root(options...)
		return with(bundle(ca), leaf(p, ca))
	}}
}

// subBut is an intermediate CA with changes between a usual CA and a usual certificate.
func subBut(name string, options ...option) scenario {
	return scenario{name, func(p purpose) situation {
		ca := root()
		between := sub(ca, "an intermediate CA", options...)
		return with(bundle(ca), leaf(p, between), between)
	}}
}

// hostAs asks for another host.
func hostAs(name, host string, names ...[]byte) scenario {
	return scenario{name, func(p purpose) situation {
		ca := root()
		made := with(bundle(ca), leaf(p, ca, alternativeNames(names...)))
		made.host = host
		return made
	}}
}

// constrained is a CA with name constraints whose certificate has these names, and always the host.
func constrained(name string, constraints option, names ...[]byte) scenario {
	return scenario{name, func(p purpose) situation {
		ca := root()
		between := sub(ca, "a constrained CA", constraints)
		names := append([][]byte{dns(host)}, names...)
		return with(bundle(ca), leaf(p, between, alternativeNames(names...)), between)
	}}
}

func list(names ...[]byte) [][]byte { return names }

func groups() []group {
	return []group{
		{"chains", chains()},
		{"certificates in the bundle", bundled()},
		{"CA flags, key usage, path length", authority()},
		{"extended key usage", purposes()},
		{"validity", validity()},
		{"extensions", extensions()},
		{"keys and signatures", signatures()},
		{"subjects", subjects()},
		{"names of hosts", hosts()},
		{"name constraints", nameConstraints()},
		{"encoding", encoding()},
		{"bundles", bundles()},
	}
}

func chains() []scenario {
	return []scenario{
		leafBut("signed by a CA of the bundle"),
		subBut("one intermediate"),
		{"two intermediates", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a")
			b := sub(a, "b")
			return with(bundle(ca), leaf(p, b), b, a)
		}},
		{"two intermediates, in the wrong order", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a")
			b := sub(a, "b")
			return with(bundle(ca), leaf(p, b), a, b)
		}},
		{"nine intermediates", func(p purpose) situation {
			ca := root()
			issuer := ca
			var between []entity
			for at := range 9 {
				issuer = sub(issuer, fmt.Sprint("intermediate ", at))
				between = append([]entity{issuer}, between...)
			}
			return with(bundle(ca), append([]entity{leaf(p, issuer)}, between...)...)
		}},
		{"the intermediate is missing", func(p purpose) situation {
			ca := root()
			return with(bundle(ca), leaf(p, sub(ca, "a")))
		}},
		{"the bundle has the intermediate, not the root", func(p purpose) situation {
			a := sub(root(), "a")
			return with(bundle(a), leaf(p, a))
		}},
		{"the chain has the root, too", func(p purpose) situation {
			ca := root()
			return with(bundle(ca), leaf(p, ca), ca)
		}},
		{"the chain has a foreign CA, too", func(p purpose) situation {
			ca := root()
			return with(bundle(ca), leaf(p, ca), root(subject(named("foreign"))))
		}},
		{"an unknown CA", func(p purpose) situation {
			return with(bundle(root(subject(named("other")))), leaf(p, root()))
		}},
		{"another CA with the same name", func(p purpose) situation {
			return with(bundle(root()), leaf(p, root()))
		}},
		{"two CAs with the same name, the second signed", func(p purpose) situation {
			ca := root()
			return with(bundle(root(), ca), leaf(p, ca))
		}},
		{"a CA renewed with the same key", func(p purpose) situation {
			old := root(until(utc, "210101000000Z"))
			return with(bundle(old, root(withKey(old.key))), leaf(p, old))
		}},
		{"a cross-signed CA, one path expired", func(p purpose) situation {
			expired := root(subject(named("old root")), until(utc, "210101000000Z"))
			ca := root(subject(named("new root")))
			a := sub(ca, "a")
			cross := sub(expired, "a", withKey(a.key))
			return with(bundle(expired, ca), leaf(p, a), cross, a)
		}},
		{"CAs that sign each other, and no root", func(p purpose) situation {
			a, b := root(subject(named("a"))), root(subject(named("b")))
			crossA := issue(&b, subject(named("a")), isCA(true), withKey(a.key))
			crossB := issue(&a, subject(named("b")), isCA(true), withKey(b.key))
			return with(bundle(root()), leaf(p, a), crossA, crossB)
		}},
		{"150 foreign intermediates with the issuer's name", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a")
			chain := []entity{leaf(p, a)}
			key := newKey(elliptic.P256())
			for range 150 {
				chain = append(chain, root(subject(named("a")), withKey(key)))
			}
			return with(bundle(ca), append(chain, a)...)
		}},
		{"101 foreign intermediates with the issuer's name, each with another key", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a")
			chain := []entity{leaf(p, a)}
			for range 101 {
				chain = append(chain, root(subject(named("a"))))
			}
			return with(bundle(ca), append(chain, a)...)
		}},
		{"40 foreign intermediates with the issuer's name, each with another key", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a")
			chain := []entity{leaf(p, a)}
			for range 40 {
				chain = append(chain, root(subject(named("a"))))
			}
			return with(bundle(ca), append(chain, a)...)
		}},
	}
}

func bundled() []scenario {
	itself := func(name string, options ...option) scenario {
		return scenario{name, func(p purpose) situation {
			one := selfSigned(p, options...)
			return with(bundle(one), one)
		}}
	}
	return []scenario{
		{"self-signed, not in the bundle", func(p purpose) situation {
			return with(bundle(root()), selfSigned(p))
		}},
		itself("self-signed, in the bundle"),
		itself("self-signed with CA:TRUE, in the bundle", isCA(true)),
		itself("self-signed with CA:FALSE, in the bundle", isCA(false)),
		itself("self-signed of version 1, in the bundle", version1),
		itself("expired, in the bundle", until(utc, "210101000000Z")),
		itself("with an unknown critical extension, in the bundle", extension([]int{1, 2, 3}, true, []byte{5, 0})),
		{"for the other purpose, in the bundle", func(p purpose) situation {
			one := selfSigned(p, usages(p.other().oid))
			return with(bundle(one), one)
		}},
		{"in the bundle without the CA that signed it", func(p purpose) situation {
			one := leaf(p, root())
			return with(bundle(one), one)
		}},
		{"signed by a certificate with CA:FALSE that is in the bundle", func(p purpose) situation {
			ca := root()
			user := leaf(p, ca, isCA(false), subject(named("user")))
			return with(bundle(ca, user), leaf(p, user))
		}},
		{"signed by a certificate without basic constraints that is in the bundle", func(p purpose) situation {
			user := selfSigned(p, subject(named("user")))
			return with(bundle(user), leaf(p, user))
		}},
		{"another certificate with the key of one in the bundle", func(p purpose) situation {
			one := selfSigned(p, subject(named("user")))
			return with(bundle(one), leaf(p, one, subject(named("user")), withKey(one.key)))
		}},
	}
}

func authority() []scenario {
	return []scenario{
		rootBut("a root without basic constraints", without(19)),
		rootBut("a root with CA:FALSE", isCA(false)),
		rootBut("a root whose key usage lacks keyCertSign", keyUsage(digitalSignature)),
		rootBut("a root without key usage", without(15)),
		rootBut("a root with an empty key usage", keyUsage()),
		rootBut("a root of version 1", version1),
		{"a root of version 1 with an intermediate", func(p purpose) situation {
			ca := root(version1)
			a := sub(ca, "a")
			return with(bundle(ca), leaf(p, a), a)
		}},
		rootBut("a root of version 2", version1, func(t *template) { t.version = 1 }),
		rootBut("a root with pathlen 0, no intermediate", isCA(true, 0)),
		{"a root with pathlen 0, one intermediate", func(p purpose) situation {
			ca := root(isCA(true, 0))
			a := sub(ca, "a")
			return with(bundle(ca), leaf(p, a), a)
		}},
		{"a root with pathlen 1, one intermediate", func(p purpose) situation {
			ca := root(isCA(true, 1))
			a := sub(ca, "a")
			return with(bundle(ca), leaf(p, a), a)
		}},
		{"an intermediate with pathlen 0 above another", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a", isCA(true, 0))
			b := sub(a, "b")
			return with(bundle(ca), leaf(p, b), b, a)
		}},
		subBut("an intermediate with CA:FALSE", isCA(false)),
		subBut("an intermediate without basic constraints", without(19)),
		subBut("an intermediate whose key usage lacks keyCertSign", keyUsage(digitalSignature)),
		subBut("an intermediate without key usage", without(15)),
		subBut("an intermediate of version 1", version1),
		leafBut("a certificate with CA:TRUE", isCA(true)),
		leafBut("a certificate with CA:TRUE and pathlen 0", isCA(true, 0), keyUsage(keyCertSign)),
		leafBut("a certificate without digitalSignature", keyUsage(2)),
		leafBut("a certificate without key usage", without(15)),
		leafBut("a certificate of version 1", version1),
		leafBut("a certificate of version 2 with unique identifiers", version1,
			func(t *template) { t.version, t.uniqueIDs = 1, true }),
		leafBut("a certificate of version 3 with unique identifiers", func(t *template) { t.uniqueIDs = true }),
		leafBut("a certificate of version 1 with extensions", func(t *template) { t.version = 0 }),
		leafBut("a certificate of version 4", func(t *template) { t.version = 3 }),
	}
}

func purposes() []scenario {
	type build = func(purpose) situation
	ca := func(build func(p purpose) option) build {
		return func(p purpose) situation {
			ca := root(build(p))
			return with(bundle(ca), leaf(p, ca))
		}
	}
	own := func(build func(p purpose) option) build {
		return func(p purpose) situation {
			ca := root()
			return with(bundle(ca), leaf(p, ca, build(p)))
		}
	}
	matching := func(p purpose) option { return usages(p.oid) }
	opposite := func(p purpose) option { return usages(p.other().oid) }
	both := func(p purpose) option { return usages(p.other().oid, p.oid) }
	anything := []int{2, 5, 29, 37, 0}
	codeSigning := []int{1, 3, 6, 1, 5, 5, 7, 3, 3}
	return []scenario{
		leafBut("none", without(37)),
		leafBut("an empty list", usages()),
		leafBut("any", usages(anything)),
		leafBut("code signing", usages(codeSigning)),
		leafBut("an unknown usage", usages([]int{1, 2, 3, 4})),
		{"the other purpose", own(opposite)},
		{"both purposes", own(both)},
		{"the purpose, and critical", func(p purpose) situation {
			ca := root()
			return with(bundle(ca), leaf(p, ca, replace(37, true, tlv(sequence, der(p.oid)))))
		}},
		{"a root for the purpose", ca(matching)},
		{"a root for the other purpose", ca(opposite)},
		rootBut("a root for any purpose", usages(anything)),
		{"an intermediate for the other purpose", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a", usages(p.other().oid))
			return with(bundle(ca), leaf(p, a), a)
		}},
	}
}

func validity() []scenario {
	return []scenario{
		leafBut("expired", until(utc, "210101000000Z")),
		leafBut("not yet valid", from(utc, "450101000000Z")),
		leafBut("ends before it begins", from(utc, "300101000000Z"), until(utc, "290101000000Z")),
		rootBut("the root has expired", until(utc, "210101000000Z")),
		rootBut("the root is not yet valid", from(utc, "450101000000Z")),
		subBut("the intermediate has expired", until(utc, "210101000000Z")),
		leafBut("begins in 1950 (UTCTime)", from(utc, "500101000000Z")),
		leafBut("begins in 1969 (UTCTime)", from(utc, "691231235959Z")),
		leafBut("begins in 1901 (GeneralizedTime)", from(generalized, "19010101000000Z")),
		leafBut("begins in year 0 (GeneralizedTime)", from(generalized, "00000101000000Z")),
		rootBut("the root begins in 1955", from(utc, "550101000000Z")),
		subBut("the intermediate begins in 1955", from(utc, "550101000000Z")),
		leafBut("ended in 1969", from(utc, "550101000000Z"), until(utc, "691231235959Z")),
		leafBut("ends in year 9999 (GeneralizedTime)", until(generalized, "99991231235959Z")),
		leafBut("a GeneralizedTime before 2050", from(generalized, "20200101000000Z")),
		leafBut("a UTCTime without seconds", from(utc, "2001010000Z")),
		leafBut("a UTCTime with an offset", from(utc, "200101000000+0100")),
		leafBut("a UTCTime with offset zero", from(utc, "200101000000+0000")),
		leafBut("a GeneralizedTime with fractions", from(generalized, "20200101000000.5Z")),
		leafBut("30 February", from(utc, "200230000000Z")),
	}
}

func extensions() []scenario {
	unknown := func(critical bool) option { return extension([]int{1, 2, 3, 4}, critical, []byte{5, 0}) }
	policy := tlv(sequence, tlv(sequence, der(asnOID(1, 2, 3, 4))))
	needsPolicy := tlv(sequence, tlv(0x80, []byte{0}))
	return []scenario{
		leafBut("an unknown one", unknown(false)),
		leafBut("an unknown critical one", unknown(true)),
		rootBut("an unknown critical one of the root", unknown(true)),
		subBut("an unknown critical one of the intermediate", unknown(true)),
		leafBut("one twice", func(t *template) { t.extensions = append(t.extensions, t.extensions[0]) }),
		leafBut("an empty list", func(t *template) {
			t.extensions, t.after = nil, tlv(0xa3, tlv(sequence))
		}),
		leafBut("malformed basic constraints", replace(19, true, []byte{4, 1, 1})),
		leafBut("malformed key usage", replace(15, true, []byte{4, 1, 1})),
		leafBut("basic constraints with a negative pathlen", isCA(true, -1)),
		leafBut("critical certificate policies", replace(32, true, policy)),
		leafBut("the same policy twice", replace(32, false, tlv(sequence, policy[2:], policy[2:]))),
		leafBut("critical inhibitAnyPolicy", replace(54, true, der(0))),
		leafBut("policy constraints that require a policy", replace(36, true, needsPolicy)),
		subBut("an intermediate that requires a policy, which the certificate lacks", replace(36, true, needsPolicy)),
		{"an intermediate that requires a policy, which the certificate has", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a", replace(36, true, needsPolicy), replace(32, false, policy))
			return with(bundle(ca), leaf(p, a, replace(32, false, policy)), a)
		}},
		rootBut("a root that requires a policy", replace(36, true, needsPolicy)),
		leafBut("a critical subject key identifier", replace(14, true, tlv(4, []byte{1}))),
		leafBut("a critical authority key identifier", replace(35, true, tlv(sequence, tlv(0x80, []byte{1})))),
		leafBut("an authority key identifier of another key", replace(35, false, tlv(sequence, tlv(0x80, []byte{1})))),
		leafBut("critical CRL distribution points",
			replace(31, true, tlv(sequence, tlv(sequence, tlv(0xa0, tlv(0xa0, uri("http://crl.example.com"))))))),
		leafBut("a critical issuer alternative name", replace(18, true, tlv(sequence, dns("a")))),
		leafBut("critical authority information access",
			extension([]int{1, 3, 6, 1, 5, 5, 7, 1, 1}, true, tlv(sequence))),
		leafBut("policy constraints without a number", replace(36, true, tlv(sequence, tlv(0x80)))),
		leafBut("a policy mapping of one policy", replace(33, false, policy)),
		leafBut("a policy that is not in its shortest form",
			replace(32, false, tlv(sequence, tlv(sequence, tlv(6, []byte{0x80, 1}))))),
		leafBut("authority information access without a method",
			extension([]int{1, 3, 6, 1, 5, 5, 7, 1, 1}, false, tlv(sequence, tlv(sequence)))),
		leafBut("a malformed authority key identifier", replace(35, false, tlv(sequence, []byte{0x80, 1}))),
		leafBut("a malformed CRL distribution point",
			replace(31, false, tlv(sequence, tlv(sequence, tlv(0xa0, uri("http://crl.example.com")))))),
		leafBut("a malformed extension that is unknown", extension([]int{1, 2, 3, 4}, false, []byte{1})),
	}
}

func signatures() []scenario {
	signer := func(name string, key func() entity, one ...algorithm) scenario {
		return scenario{name, func(p purpose) situation {
			ca := key()
			if len(one) > 0 {
				ca.algorithm = one[0]
			}
			return with(bundle(ca), leaf(p, ca))
		}}
	}
	rsaRoot := func(bits int) func() entity { return func() entity { return root(withKey(rsaKey(bits))) } }
	ecRoot := func(curve elliptic.Curve) func() entity { return func() entity { return root(withKey(newKey(curve))) } }
	return []scenario{
		signer("a CA with P-224", ecRoot(elliptic.P224())),
		signer("a CA with P-384", ecRoot(elliptic.P384())),
		signer("a CA with P-384, SHA-384", ecRoot(elliptic.P384()), ecdsaSHA384),
		signer("a CA with P-384, SHA-512", ecRoot(elliptic.P384()), ecdsaSHA512),
		signer("a CA with P-521, SHA-512", ecRoot(elliptic.P521()), ecdsaSHA512),
		signer("a CA with P-256, SHA-384", ecRoot(elliptic.P256()), ecdsaSHA384),
		signer("a CA with P-256, SHA-512", ecRoot(elliptic.P256()), ecdsaSHA512),
		signer("a CA with P-256, SHA-1", ecRoot(elliptic.P256()), ecdsaSHA1),
		signer("a CA with Ed25519", func() entity { return root(withKey(edKey())) }),
		signer("a CA with RSA 1024", rsaRoot(1024)),
		signer("a CA with RSA 2048", rsaRoot(2048)),
		signer("a CA with RSA 4096", rsaRoot(4096)),
		signer("a CA with RSA 2048, SHA-1", rsaRoot(2048), rsaSHA1),
		signer("a CA with RSA 2048, SHA-384", rsaRoot(2048), rsaSHA384),
		signer("a CA with RSA 2048, SHA-512", rsaRoot(2048), rsaSHA512),
		signer("a CA with RSA 2048, PSS", rsaRoot(2048), rsaPSS),
		signer("a CA with RSA 2048, algorithm without parameters", rsaRoot(2048), rsaBare),
		{"a root that is signed with SHA-1 itself", func(p purpose) situation {
			ca := root(withKey(rsaKey(2048)), signedAs(rsaSHA1))
			return with(bundle(ca), leaf(p, ca))
		}},
		leafBut("a certificate with RSA 1024", withKey(rsaKey(1024))),
		leafBut("a certificate with RSA 4096", withKey(rsaKey(4096))),
		leafBut("a certificate with P-521", withKey(newKey(elliptic.P521()))),
		leafBut("a certificate with Ed25519", withKey(edKey())),
		leafBut("a certificate whose key is not a point of its curve", func(t *template) {
			public, err := x509.MarshalPKIXPublicKey(newKey(elliptic.P256()).Public())
			if err != nil {
				panic(err)
			}
			public[len(public)-1] ^= 1
			t.rawKey = public
		}),
		leafBut("a signature that is not valid", func(t *template) { t.breaks = true }),
		leafBut("two signature algorithms", func(t *template) { t.outer = &ecdsaSHA384 }),
	}
}

func subjects() []scenario {
	of := func(title string, attributes ...[]byte) scenario { return leafBut(title, subject(name(attributes...))) }
	return []scenario{
		of("empty"),
		of("no common name", attribute(organization, utf8, "dev")),
		of("two common names", attribute(commonName, utf8, "first"), attribute(commonName, utf8, "last")),
		of("two organizations", attribute(organization, utf8, "a"), attribute(organization, utf8, "b"),
			attribute(commonName, utf8, "jane")),
		of("two attributes in one set", tlv(set,
			tlv(sequence, der(organization), tlv(utf8, []byte("dev"))),
			tlv(sequence, der(commonName), tlv(utf8, []byte("jane"))))),
		of("PrintableString", attribute(commonName, printable, "system:node")),
		of("PrintableString with an underscore", attribute(commonName, printable, "a_b")),
		of("UTF8String that is not UTF-8", attribute(commonName, utf8, "\xff")),
		of("T61String", attribute(commonName, t61, "\xe4")),
		of("BMPString", attribute(commonName, bmp, "\x00j\x00\xe4")),
		of("IA5String", attribute(commonName, ia5, "jane")),
		of("NumericString", attribute(commonName, numeric, "12 3")),
		of("an organization that is not text", attribute(organization, 4, "dev"), attribute(commonName, utf8, "jane")),
		of("system:masters", attribute(organization, utf8, "system:masters"), attribute(commonName, utf8, "root")),
		{"the issuer's name as another string type", func(p purpose) situation {
			ca := root(subject(name(attribute(commonName, printable, "a CA"))))
			return with(bundle(ca), leaf(p, ca, func(t *template) { t.rawIssuer = named("a CA") }))
		}},
		{"the issuer's name in other case", func(p purpose) situation {
			ca := root(subject(named("a CA")))
			return with(bundle(ca), leaf(p, ca, func(t *template) { t.rawIssuer = named("A CA") }))
		}},
	}
}

func hosts() []scenario {
	return []scenario{
		hostAs("another name", host, dns("node-2.example.com")),
		hostAs("no alternative name, the host as common name", "jane"),
		hostAs("in upper case", host, dns("NODE-1.Example.COM")),
		hostAs("a wildcard", host, dns("*.example.com")),
		hostAs("a wildcard for two labels", "a.b.example.com", dns("*.example.com")),
		hostAs("a wildcard for none", "example.com", dns("*.example.com")),
		hostAs("a wildcard for part of a label", host, dns("node-*.example.com")),
		hostAs("a wildcard alone", "node-1", dns("*")),
		hostAs("a wildcard as second label", host, dns("node-1.*.com")),
		hostAs("a period at the end of the name", host, dns(host+".")),
		hostAs("a period at the end of the host", host+".", dns(host)),
		hostAs("an underscore", "node_1", dns("node_1")),
		hostAs("an empty name", host, dns("")),
		hostAs("an IPv4 address", "10.0.0.1", ip("10.0.0.1")),
		hostAs("another IPv4 address", "10.0.0.2", ip("10.0.0.1")),
		hostAs("an IPv6 address", "fd00::1", ip("fd00::1")),
		hostAs("an IPv4 address as DNS name", "10.0.0.1", dns("10.0.0.1")),
		hostAs("an IPv4 address mapped to IPv6", "10.0.0.1",
			tlv(0x87, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1})),
		hostAs("an address of 5 bytes", host, dns(host), tlv(0x87, []byte{1, 2, 3, 4, 5})),
		hostAs("a name that is not ASCII", host, dns(host), dns("\xe4")),
		hostAs("an email address only", host, email("a@example.com")),
		hostAs("a URI beside the name", host, dns(host), uri("spiffe://example.com/a")),
		hostAs("a URI with a space", host, dns(host), uri("https://a b/")),
		hostAs("a URI without a scheme", host, dns(host), uri("a/b")),
		hostAs("a URI whose host has an empty label", host, dns(host), uri("https://a..b/")),
		hostAs("a URI whose port is not a number", host, dns(host), uri("https://a:x/")),
		hostAs("a URI with an IPv6 address", host, dns(host), uri("https://[fd00::1]:443/")),
		hostAs("a directory name beside the name", host, dns(host), directory("a")),
		leafBut("a critical alternative name with a directory name only",
			replace(17, true, tlv(sequence, directory("a")))),
	}
}

func nameConstraints() []scenario {
	domain := list(dns("example.com"))
	return []scenario{
		constrained("a permitted domain", constraints(true, domain, nil)),
		constrained("a domain that is not permitted", constraints(true, list(dns("example.org")), nil)),
		constrained("a domain that ends like a permitted one", constraints(true, list(dns("ample.com")), nil)),
		constrained("an excluded domain", constraints(true, nil, domain)),
		constrained("an excluded subdomain of a permitted domain", constraints(true, domain, list(dns(host)))),
		constrained("a permitted domain with a leading period", constraints(true, list(dns(".example.com")), nil)),
		constrained("the domain of a leading period itself", constraints(true, list(dns(".node-1.example.com")), nil)),
		constrained("every domain permitted", constraints(true, list(dns("")), nil)),
		constrained("every domain excluded", constraints(true, nil, list(dns("")))),
		constrained("a wildcard that includes an excluded name", constraints(true, nil, list(dns("a.example.com"))),
			dns("*.example.com")),
		constrained("not critical", constraints(false, list(dns("example.org")), nil)),
		constrained("a permitted network", constraints(true, list(network("10.0.0.0/8")), nil), ip("10.0.0.1")),
		constrained("a network that is not permitted", constraints(true, list(network("192.168.0.0/16")), nil), ip("10.0.0.1")),
		constrained("an excluded network", constraints(true, nil, list(network("10.0.0.0/24"))), ip("10.0.0.1")),
		constrained("an IPv6 network for an IPv4 address", constraints(true, list(network("fd00::/8")), nil), ip("10.0.0.1")),
		constrained("a permitted IPv6 network", constraints(true, list(network("fd00::/8")), nil), ip("fd00::1")),
		constrained("a constraint on addresses, no address", constraints(true, list(network("192.168.0.0/16")), nil)),
		constrained("a permitted URI", constraints(true, list(uri("example.com")), nil), uri("spiffe://a.example.com/x")),
		constrained("a URI that is not permitted", constraints(true, list(uri("example.org")), nil), uri("spiffe://a.example.com/x")),
		constrained("a URI without a host", constraints(true, domain, nil), uri("urn:uuid:1")),
		constrained("a permitted host after the scheme of a URI without a host",
			constraints(true, list(uri("example.com")), nil), uri("urn:x://example.com/")),
		constrained("an excluded mail domain below a wildcard", constraints(true, nil, list(email("a.example.com"))),
			email("x@*.example.com")),
		constrained("a malformed mailbox as constraint", constraints(true, list(email("@example.com")), nil)),
		constrained("a network with host bits", constraints(true, list(tlv(0x87, []byte{10, 5, 0, 0, 255, 0, 0, 0})), nil), ip("10.0.0.1")),
		constrained("two networks, one with host bits",
			constraints(true, list(network("9.0.0.0/8"), tlv(0x87, []byte{10, 5, 0, 0, 255, 0, 0, 0})), nil), ip("10.0.0.1")),
		constrained("a permitted mailbox", constraints(true, list(email("a@example.com")), nil), email("a@EXAMPLE.com")),
		constrained("a mailbox that is not permitted", constraints(true, list(email("a@example.com")), nil), email("b@example.com")),
		constrained("a permitted mail domain", constraints(true, list(email("example.com")), nil), email("b@example.com")),
		constrained("a critical constraint on directory names", constraints(true, list(directory("jane")), nil)),
		constrained("a constraint on directory names", constraints(false, list(directory("other")), nil)),
		constrained("a constraint without lists", constraints(true, nil, nil)),
		constrained("a mask with gaps", constraints(true, list(tlv(0x87, []byte{10, 0, 0, 0, 255, 0, 255, 0})), nil)),
		constrained("a network of 6 bytes", constraints(true, list(tlv(0x87, []byte{10, 0, 0, 0, 255, 0})), nil)),
		rootBut("of the root", constraints(true, list(dns("example.org")), nil)),
		leafBut("of the certificate itself", constraints(true, list(dns("example.org")), nil)),
		{"of a CA above the intermediate", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a", constraints(true, list(dns("example.org")), nil))
			b := sub(a, "b")
			return with(bundle(ca), leaf(p, b), b, a)
		}},
		{"two CAs, each permits a part", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a", constraints(true, list(dns("example.com")), nil))
			b := sub(a, "b", constraints(true, list(dns("com")), list(dns("node-2.example.com"))))
			return with(bundle(ca), leaf(p, b), b, a)
		}},
		{"no alternative name", func(p purpose) situation {
			ca := root()
			a := sub(ca, "a", constraints(true, list(dns("example.org")), nil))
			return with(bundle(ca), leaf(p, a, without(17)), a)
		}},
	}
}

func encoding() []scenario {
	serial := func(name string, raw []byte) scenario { return leafBut(name, func(t *template) { t.rawSerial = raw }) }
	return []scenario{
		serial("serial number 0", []byte{2, 1, 0}),
		serial("a negative serial number", []byte{2, 1, 0x80}),
		serial("a serial number of 24 bytes", tlv(2, bytes.Repeat([]byte{1}, 24))),
		serial("a serial number not in its shortest form", []byte{2, 2, 0, 1}),
		serial("a serial number without digits", []byte{2, 0}),
		leafBut("data after the version", func(t *template) { t.afterVersion = []byte{5, 0} }),
		leafBut("data after the certificate", func(t *template) { t.afterAll = []byte{0} }),
		leafBut("data after the extensions", func(t *template) { t.after = []byte{5, 0} }),
		{"a length not in its shortest form", func(p purpose) situation {
			ca := root()
			one := leaf(p, ca)
			made := with(bundle(ca), one)
			made.chain[0] = append([]byte{sequence, 0x83, 0}, one.der[2:]...)
			return made
		}},
		{"an indefinite length", func(p purpose) situation {
			ca := root()
			one := leaf(p, ca)
			made := with(bundle(ca), one)
			made.chain[0] = append(append([]byte{sequence, 0x80}, one.der[4:]...), 0, 0)
			return made
		}},
		{"a truncated certificate", func(p purpose) situation {
			ca := root()
			one := leaf(p, ca)
			made := with(bundle(ca), one)
			made.chain[0] = one.der[:len(one.der)-1]
			return made
		}},
		{"an intermediate that is no certificate", func(p purpose) situation {
			ca := root()
			made := with(bundle(ca), leaf(p, ca))
			made.chain = append(made.chain, []byte{1, 2, 3})
			return made
		}},
	}
}

func bundles() []scenario {
	around := func(name string, change func(pem []byte) []byte) scenario {
		return scenario{name, func(p purpose) situation {
			ca := root()
			return with(change(bundle(ca)), leaf(p, ca))
		}}
	}
	before := func(text []byte) func([]byte) []byte {
		return func(pem []byte) []byte { return append(append([]byte{}, text...), pem...) }
	}
	block := func(kind string, content []byte, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content, Headers: headers})
	}
	negative := root(func(t *template) { t.rawSerial = []byte{2, 1, 0x80} })
	return []scenario{
		around("text between the certificates", before([]byte("# a comment\nissuer=CN = a\n\n"))),
		around("lines that end with CR LF", func(pem []byte) []byte { return bytes.ReplaceAll(pem, []byte("\n"), []byte("\r\n")) }),
		around("no line end after the last line", func(pem []byte) []byte { return bytes.TrimSpace(pem) }),
		around("the same certificate twice", func(pem []byte) []byte { return append(append([]byte{}, pem...), pem...) }),
		around("a private key, too", before(block("PRIVATE KEY", []byte{1, 2, 3}, nil))),
		around("a block that is no certificate", before(block("CERTIFICATE", []byte("hello"), nil))),
		around("a certificate with a negative serial number, too", before(pemOf(negative))),
		around("a block with headers", before(block("CERTIFICATE", []byte("hello"), map[string]string{"a": "b"}))),
		around("a block that is not base64", before([]byte("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"))),
		around("a block without end", before([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n"))),
		around("a UTF-8 byte order mark", before([]byte("\xef\xbb\xbf"))),
		around("empty", func([]byte) []byte { return nil }),
		around("only text", func([]byte) []byte { return []byte("no certificate") }),
	}
}
