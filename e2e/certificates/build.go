package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
)

// Certificates are built field by field, because x509.CreateCertificate refuses most of these situations.

type purpose struct {
	name  string
	usage x509.ExtKeyUsage
	oid   asn1.ObjectIdentifier
}

var (
	client = purpose{"client", x509.ExtKeyUsageClientAuth, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}}
	server = purpose{"server", x509.ExtKeyUsageServerAuth, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}}
)

func (p purpose) other() purpose {
	if p.name == client.name {
		return server
	}
	return client
}

// algorithm is a signature algorithm.
type algorithm struct {
	oid        asn1.ObjectIdentifier
	parameters asn1.RawValue
	hash       crypto.Hash
	pss        bool
}

var (
	null        = asn1.NullRawValue
	absent      = asn1.RawValue{}
	ecdsaSHA1   = algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, absent, crypto.SHA1, false}
	ecdsaSHA256 = algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, absent, crypto.SHA256, false}
	ecdsaSHA384 = algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, absent, crypto.SHA384, false}
	ecdsaSHA512 = algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, absent, crypto.SHA512, false}
	rsaSHA1     = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, null, crypto.SHA1, false}
	rsaSHA256   = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, null, crypto.SHA256, false}
	rsaSHA384   = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, null, crypto.SHA384, false}
	rsaSHA512   = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, null, crypto.SHA512, false}
	rsaBare     = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, absent, crypto.SHA256, false}
	rsaPSS      = algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, pssParameters(), crypto.SHA256, true}
	ed25519Sig  = algorithm{asn1.ObjectIdentifier{1, 3, 101, 112}, absent, 0, false}
)

func pssParameters() asn1.RawValue {
	sha256 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: null}
	type parameters struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt int                      `asn1:"explicit,tag:2"`
	}
	mgf := pkix.AlgorithmIdentifier{
		Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8},
		Parameters: asn1.RawValue{FullBytes: der(sha256)},
	}
	return asn1.RawValue{FullBytes: der(parameters{sha256, mgf, 32})}
}

// entity is a certificate with its key.
type entity struct {
	der     []byte
	key     crypto.Signer
	subject []byte
	// algorithm is how it signs.
	algorithm algorithm
}

// template is what a certificate contains. Values that begin with "raw" are in DER.
type template struct {
	version      int
	rawSerial    []byte
	algorithm    *algorithm
	outer        *algorithm
	rawIssuer    []byte
	rawSubject   []byte
	rawNotBefore []byte
	rawNotAfter  []byte
	key          crypto.Signer
	uniqueIDs    bool
	extensions   []pkix.Extension
	// after is appended to the signed part, afterAll to the certificate, afterVersion to the version.
	after, afterAll, afterVersion []byte
	// rawKey is the public key in place of that of key.
	rawKey []byte
	// breaks changes the signature.
	breaks bool
}

type option func(*template)

func der(value any) []byte {
	bytes, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return bytes
}

// tlv returns an element of any tag.
func tlv(tag byte, content ...[]byte) []byte {
	var all []byte
	for _, one := range content {
		all = append(all, one...)
	}
	length := len(all)
	switch {
	case length < 0x80:
		return append([]byte{tag, byte(length)}, all...)
	case length < 0x100:
		return append([]byte{tag, 0x81, byte(length)}, all...)
	default:
		return append([]byte{tag, 0x82, byte(length >> 8), byte(length)}, all...)
	}
}

const (
	utf8, numeric, printable, t61, ia5, utc, generalized, bmp = 0x0c, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1e
	sequence, set                                             = 0x30, 0x31
)

var (
	commonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	organization = asn1.ObjectIdentifier{2, 5, 4, 10}
)

// attribute returns a relative distinguished name of one attribute.
func attribute(kind asn1.ObjectIdentifier, tag byte, value string) []byte {
	return tlv(set, tlv(sequence, der(kind), tlv(tag, []byte(value))))
}

func name(attributes ...[]byte) []byte { return tlv(sequence, attributes...) }

func named(common string) []byte { return name(attribute(commonName, utf8, common)) }

func algorithmDER(one algorithm) []byte {
	return der(pkix.AlgorithmIdentifier{Algorithm: one.oid, Parameters: one.parameters})
}

func newKey(curve elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

var rsaKeys = map[int]crypto.Signer{}

func rsaKey(bits int) crypto.Signer {
	if rsaKeys[bits] == nil {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		rsaKeys[bits] = key
	}
	return rsaKeys[bits]
}

func edKey() crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func usual(key crypto.Signer) algorithm {
	switch key.Public().(type) {
	case *rsa.PublicKey:
		return rsaSHA256
	case ed25519.PublicKey:
		return ed25519Sig
	default:
		return ecdsaSHA256
	}
}

func (a algorithm) sign(key crypto.Signer, message []byte) []byte {
	digest, options := message, crypto.SignerOpts(a.hash)
	if a.hash != 0 {
		hash := a.hash.New()
		hash.Write(message)
		digest = hash.Sum(nil)
	}
	if a.pss {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	signature, err := key.Sign(rand.Reader, digest, options)
	if err != nil {
		panic(err)
	}
	return signature
}

// issue signs a certificate; with no issuer, the certificate's own key signs it.
func issue(issuer *entity, options ...option) entity {
	t := template{
		version:      2,
		rawSerial:    der(big.NewInt(4711)),
		rawNotBefore: tlv(utc, []byte("200101000000Z")),
		rawNotAfter:  tlv(utc, []byte("491231235959Z")),
	}
	for _, change := range options {
		change(&t)
	}
	if t.key == nil {
		t.key = newKey(elliptic.P256())
	}
	if issuer == nil {
		issuer = &entity{key: t.key, subject: t.rawSubject, algorithm: usual(t.key)}
	}
	inner := issuer.algorithm
	if t.algorithm != nil {
		inner = *t.algorithm
	}
	outer := inner
	if t.outer != nil {
		outer = *t.outer
	}
	if t.rawIssuer == nil {
		t.rawIssuer = issuer.subject
	}
	public, err := x509.MarshalPKIXPublicKey(t.key.Public())
	if err != nil {
		panic(err)
	}
	if t.rawKey != nil {
		public = t.rawKey
	}
	var fields [][]byte
	if t.version > 0 {
		fields = append(fields, tlv(0xa0, der(t.version), t.afterVersion))
	}
	validity := tlv(sequence, t.rawNotBefore, t.rawNotAfter)
	fields = append(fields, t.rawSerial, algorithmDER(inner), t.rawIssuer, validity, t.rawSubject, public)
	if t.uniqueIDs {
		fields = append(fields, tlv(0x81, []byte{0, 1}), tlv(0x82, []byte{0, 2}))
	}
	if len(t.extensions) > 0 {
		fields = append(fields, tlv(0xa3, der(t.extensions)))
	}
	tbs := mutations.issuing(tlv(sequence, append(fields, t.after)...))
	signature := inner.sign(issuer.key, tbs)
	if t.breaks {
		signature[len(signature)-1] ^= 1
	}
	bits := der(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})
	outerDER, subject := algorithmDER(outer), t.rawSubject
	if mutations != nil && t.outer == nil {
		// What depends on the signed part follows its changes.
		outerDER, subject = algorithmAndSubject(tbs, outerDER, subject)
	}
	certificate := append(tlv(sequence, tbs, outerDER, bits), t.afterAll...)
	return entity{der: mutations.issuedAs(certificate), key: t.key, subject: subject, algorithm: usual(t.key)}
}

// Options.

func extension(id asn1.ObjectIdentifier, critical bool, value []byte) option {
	return func(t *template) {
		t.extensions = append(t.extensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

// without removes an extension.
func without(number int) option {
	return func(t *template) {
		var kept []pkix.Extension
		for _, one := range t.extensions {
			if !one.Id.Equal(certificateExtension(number)) {
				kept = append(kept, one)
			}
		}
		t.extensions = kept
	}
}

func certificateExtension(number int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 5, 29, number}
}

// replace sets an extension in place of the usual one.
func replace(number int, critical bool, value []byte) option {
	return func(t *template) {
		without(number)(t)
		extension(certificateExtension(number), critical, value)(t)
	}
}

func keyUsage(bits ...int) option {
	var octets [2]byte
	length := 0
	for _, bit := range bits {
		octets[bit/8] |= 0x80 >> (bit % 8)
		length = max(length, bit+1)
	}
	return replace(15, true, der(asn1.BitString{Bytes: octets[:(length+7)/8], BitLength: length}))
}

const digitalSignature, keyCertSign = 0, 5

func isCA(yes bool, pathLength ...int) option {
	var content [][]byte
	if yes {
		content = append(content, []byte{1, 1, 0xff})
	}
	for _, length := range pathLength {
		content = append(content, der(length))
	}
	return replace(19, true, tlv(sequence, content...))
}

func usages(list ...asn1.ObjectIdentifier) option {
	var content [][]byte
	for _, one := range list {
		content = append(content, der(one))
	}
	return replace(37, false, tlv(sequence, content...))
}

func dns(name string) []byte   { return tlv(0x82, []byte(name)) }
func email(name string) []byte { return tlv(0x81, []byte(name)) }
func uri(name string) []byte   { return tlv(0x86, []byte(name)) }
func ip(text string) []byte {
	address := net.ParseIP(text)
	if short := address.To4(); short != nil {
		address = short
	}
	return tlv(0x87, address)
}
func network(text string) []byte {
	_, network, err := net.ParseCIDR(text)
	if err != nil {
		panic(err)
	}
	return tlv(0x87, network.IP, network.Mask)
}
func directory(common string) []byte { return tlv(0xa4, named(common)) }

func alternativeNames(names ...[]byte) option { return replace(17, false, tlv(sequence, names...)) }

// constraints returns name constraints; a nil list is left out.
func constraints(critical bool, permitted, excluded [][]byte) option {
	var content [][]byte
	for tag, list := range [][][]byte{permitted, excluded} {
		var subtrees [][]byte
		for _, one := range list {
			subtrees = append(subtrees, tlv(sequence, one))
		}
		if list != nil {
			content = append(content, tlv(0xa0+byte(tag), subtrees...))
		}
	}
	return extension(certificateExtension(30), critical, tlv(sequence, content...))
}

func subject(raw []byte) option        { return func(t *template) { t.rawSubject = raw } }
func withKey(key crypto.Signer) option { return func(t *template) { t.key = key } }
func signedAs(one algorithm) option    { return func(t *template) { t.algorithm = &one } }
func from(tag byte, text string) option {
	return func(t *template) { t.rawNotBefore = tlv(tag, []byte(text)) }
}
func until(tag byte, text string) option {
	return func(t *template) { t.rawNotAfter = tlv(tag, []byte(text)) }
}

// version1 removes the extensions, too.
func version1(t *template) { t.version, t.extensions = 0, nil }

func asnOID(numbers ...int) asn1.ObjectIdentifier { return numbers }
