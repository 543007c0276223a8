package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// mutator changes certificates while they are issued. It knows DER: a change is at any element, at any depth, and the
// lengths around it fit again.
type mutator struct {
	*rand.Rand
	// signed is the number of the certificate whose signed part is changed before it is signed; issued is the number
	// of those that were issued. whole is the number of the one that is changed afterwards.
	signed, whole, issued int
	// did describes the changes.
	did []string
	// seen are elements of earlier certificates.
	seen []node
}

// mutations is nil when certificates are issued as they are.
var mutations *mutator

// issuing changes the signed part of the next certificate.
func (m *mutator) issuing(tbs []byte) []byte {
	if m == nil {
		return tbs
	}
	m.issued++
	if m.issued-1 != m.signed {
		return tbs
	}
	return m.change("signed part", tbs)
}

// issuedAs changes the certificate that was issued last.
func (m *mutator) issuedAs(certificate []byte) []byte {
	if m == nil || m.issued-1 != m.whole {
		return certificate
	}
	return m.change("certificate", certificate)
}

// mutate makes a scenario with changes.
func (m *mutator) mutate(scenario scenario, p purpose, certificates int) situation {
	m.issued, m.signed, m.whole, m.did = 0, -1, -1, nil
	chain := false
	switch m.IntN(10) {
	case 0:
		m.whole = m.IntN(certificates)
	case 1:
		chain = true
	default:
		m.signed = m.IntN(certificates)
	}
	mutations = m
	made := scenario.make(p)
	mutations = nil
	if chain || m.IntN(20) == 0 {
		m.changeChain(&made)
	}
	return made
}

// algorithmAndSubject returns the signature algorithm and the subject in a signed part, as far as it has them.
func algorithmAndSubject(tbs, algorithm, subject []byte) ([]byte, []byte) {
	all := parse(tbs).children
	if len(all) == 0 {
		return algorithm, subject
	}
	fields := all[0].children
	if len(fields) > 0 && fields[0].tag == 0xa0 {
		fields = fields[1:]
	}
	if len(fields) > 4 {
		return fields[1].encode(), fields[4].encode()
	}
	return algorithm, subject
}

func (m *mutator) changeChain(made *situation) {
	at := func() int { return m.IntN(len(made.chain)) }
	switch m.IntN(6) {
	case 0:
		m.note("chain", "shuffled")
		m.Shuffle(len(made.chain), func(a, b int) { made.chain[a], made.chain[b] = made.chain[b], made.chain[a] })
	case 1:
		m.note("chain", "one twice")
		made.chain = append(made.chain, made.chain[at()])
	case 2:
		m.note("chain", "one less")
		remove := at()
		if len(made.chain) > 1 {
			made.chain = append(append([][]byte{}, made.chain[:remove]...), made.chain[remove+1:]...)
		}
	case 3:
		m.note("chain", "the first twice")
		made.chain = append([][]byte{made.chain[0]}, made.chain...)
	case 4:
		m.note("chain", "a changed one")
		change := at()
		made.chain[change] = m.change("certificate", made.chain[change])
	case 5:
		hosts := []string{"NODE-1.example.com", "node-1.example.com.", "10.0.0.1", "a.example.com", "example.com", "node-1",
			"node_1", "fd00::1", "::ffff:10.0.0.1", "x.node-1.example.com"}
		made.host = hosts[m.IntN(len(hosts))]
		m.note("host", made.host)
	}
}

func (m *mutator) note(what, how string) { m.did = append(m.did, what+": "+how) }

// change makes one to three changes.
func (m *mutator) change(what string, content []byte) []byte {
	for more := true; more; more = m.IntN(3) == 0 && len(m.did) < 3 {
		if m.IntN(8) == 0 {
			content = m.changeBytes(what, content)
			continue
		}
		root := parse(content)
		all := root.all(nil)
		if len(all) == 0 {
			return content
		}
		for range 4 {
			if one := *all[m.IntN(len(all))]; len(m.seen) < 4096 {
				m.seen = append(m.seen, one.clone())
			} else {
				m.seen[m.IntN(len(m.seen))] = one.clone()
			}
		}
		how := m.changeElement(&root, all)
		m.note(what, how)
		content = root.encodeContent()
	}
	return content
}

// changeBytes changes bytes without regard to what they are.
func (m *mutator) changeBytes(what string, content []byte) []byte {
	content = bytes.Clone(content)
	if len(content) == 0 {
		return content
	}
	at := m.IntN(len(content))
	switch m.IntN(4) {
	case 0:
		m.note(what, fmt.Sprintf("bit at %d", at))
		content[at] ^= 1 << m.IntN(8)
	case 1:
		m.note(what, fmt.Sprintf("byte at %d", at))
		content[at] = byte(m.IntN(256))
	case 2:
		m.note(what, fmt.Sprintf("byte inserted at %d", at))
		content = append(content[:at], append([]byte{byte(m.IntN(256))}, content[at:]...)...)
	case 3:
		m.note(what, fmt.Sprintf("byte removed at %d", at))
		content = append(content[:at], content[at+1:]...)
	}
	return content
}

// node is an element of DER. prefix precedes the elements in its content: the number of unused bits of a bit string.
type node struct {
	tag     byte
	content []byte
	prefix  []byte
	// children are the elements of the content if it consists of elements.
	children []node
	// form is how the length is written: 0 is DER, 1 has one byte too many, 2 is the indefinite form.
	form int
}

// parse returns a node without tag and length of its own that has the elements of content.
func parse(content []byte) node {
	children, ok := parseAll(content, 0)
	if !ok {
		return node{content: content}
	}
	return node{children: children}
}

func parseAll(content []byte, depth int) ([]node, bool) {
	var list []node
	for len(content) > 0 {
		if len(content) < 2 || content[0]&0x1f == 0x1f {
			return nil, false
		}
		length, header := int(content[1]), 2
		if length&0x80 != 0 {
			count := length & 0x7f
			if count == 0 || count > 3 || len(content) < 2+count {
				return nil, false
			}
			length = 0
			for _, one := range content[2 : 2+count] {
				length = length<<8 | int(one)
			}
			header += count
		}
		if len(content)-header < length {
			return nil, false
		}
		one := node{tag: content[0], content: content[header : header+length]}
		inner := one.content
		// Bit strings and octet strings can contain DER: keys, signatures and extensions.
		if one.tag == 3 && len(inner) > 0 {
			one.prefix, inner = inner[:1], inner[1:]
		}
		if (one.tag&0x20 != 0 || one.tag == 3 || one.tag == 4) && len(inner) > 1 && depth < 20 {
			if children, ok := parseAll(inner, depth+1); ok {
				one.children = children
			}
		}
		list = append(list, one)
		content = content[header+length:]
	}
	return list, true
}

func (n node) clone() node {
	children := n.children
	n.content, n.children = bytes.Clone(n.content), nil
	for _, child := range children {
		n.children = append(n.children, child.clone())
	}
	return n
}

func (n *node) all(list []*node) []*node {
	for at := range n.children {
		list = append(list, &n.children[at])
		list = n.children[at].all(list)
	}
	return list
}

func (n node) encodeContent() []byte {
	if n.children == nil {
		return n.content
	}
	all := bytes.Clone(n.prefix)
	for _, child := range n.children {
		all = append(all, child.encode()...)
	}
	return all
}

func (n node) encode() []byte {
	content := n.encodeContent()
	switch n.form {
	case 1:
		return append([]byte{n.tag, 0x83, 0, byte(len(content) >> 8), byte(len(content))}, content...)
	case 2:
		return append(append([]byte{n.tag, 0x80}, content...), 0, 0)
	default:
		return tlv(n.tag, content)
	}
}

// changeElement changes one of all elements below root.
func (m *mutator) changeElement(root *node, all []*node) string {
	one := all[m.IntN(len(all))]
	other := all[m.IntN(len(all))]
	name := fmt.Sprintf("%02x %.8x", one.tag, one.content)
	opaque := func(content []byte) { one.content, one.children, one.prefix = content, nil, nil }
	content := one.encodeContent()
	switch m.IntN(15) {
	case 0:
		opaque(m.bytesOf(content))
		return name + ": content changed"
	case 1, 2:
		opaque(m.interesting(one.tag))
		return fmt.Sprintf("%s: content is %x", name, one.content)
	case 3:
		tags := []byte{1, 2, 3, 4, 5, 6, 0x0a, utf8, numeric, printable, t61, ia5, utc, generalized, bmp, sequence, set, 0x80,
			0x81, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x1f, one.tag ^ 0x20}
		one.tag = tags[m.IntN(len(tags))]
		return fmt.Sprintf("%s: tag is %02x", name, one.tag)
	case 4:
		one.form = 1 + m.IntN(2)
		return name + ": length not in DER"
	case 5:
		opaque(append(bytes.Clone(content), m.small()...))
		return name + ": data after the content"
	case 6:
		if len(content) > 0 {
			opaque(content[:len(content)-1])
		}
		return name + ": content truncated"
	case 7:
		*one = other.clone()
		return name + ": replaced with another element"
	case 8:
		if len(m.seen) > 0 {
			*one = m.seen[m.IntN(len(m.seen))].clone()
		}
		return name + ": replaced with an element of another certificate"
	default:
		return name + m.changeList(root, one)
	}
}

// changeList changes the elements beside one.
func (m *mutator) changeList(parent, one *node) string {
	for at := range parent.children {
		child := &parent.children[at]
		if child != one {
			if how := m.changeList(child, one); how != "" {
				return how
			}
			continue
		}
		list := append([]node{}, parent.children...)
		second := m.IntN(len(list))
		how := ""
		switch m.IntN(5) {
		case 0:
			how, list = ": removed", append(list[:at], list[at+1:]...)
		case 1:
			how, list = ": twice", append(list[:at+1], append([]node{one.clone()}, list[at+1:]...)...)
		case 2:
			how = ": order changed"
			list[at], list[second] = list[second], list[at]
		case 3:
			inserted := parse(m.small()).children
			how, list = fmt.Sprintf(": %d elements before", len(inserted)), append(list[:at], append(inserted, list[at:]...)...)
		case 4:
			if len(m.seen) > 0 {
				how = ": an element of another certificate after"
				list = append(list[:at+1], append([]node{m.seen[m.IntN(len(m.seen))].clone()}, list[at+1:]...)...)
			}
		}
		if len(list) == 0 {
			parent.content = parent.prefix
			list = nil
		}
		parent.children = list
		return how + " "
	}
	return ""
}

func (m *mutator) bytesOf(content []byte) []byte {
	content = bytes.Clone(content)
	if len(content) == 0 {
		return []byte{byte(m.IntN(256))}
	}
	at := m.IntN(len(content))
	switch m.IntN(3) {
	case 0:
		content[at] ^= 1 << m.IntN(8)
	case 1:
		content = append(content[:at], append([]byte{byte(m.IntN(256))}, content[at:]...)...)
	case 2:
		content = append(content[:at], content[at+1:]...)
	}
	return content
}

// small returns short elements.
func (m *mutator) small() []byte {
	list := [][]byte{
		{5, 0}, {1, 1, 0xff}, {1, 1, 0}, {1, 1, 1}, {2, 1, 0}, {2, 1, 1}, {2, 1, 0xff}, {4, 0}, {sequence, 0}, {set, 0},
		{0x80, 0}, {0x80, 1, 0}, {0x81, 0}, {0x82, 0}, {0xa0, 0}, {0xa1, 0}, {0xa3, 2, sequence, 0}, {3, 1, 0}, {0}, {0, 0},
		{6, 1, 0x2a}, {6, 2, 0x80, 1}, dns("*.example.com"), ip("10.0.0.1"), email("a@*.example.com"),
		uri("https://node-1.example.com:x/"), tlv(sequence, dns("node-1.example.com")),
		tlv(sequence, network("10.0.0.0/8")), tlv(sequence, email("example.com")), directory("a"),
	}
	return list[m.IntN(len(list))]
}

// interesting returns content for an element of this tag: at the limits of what is valid, and beyond.
func (m *mutator) interesting(tag byte) []byte {
	texts := []string{
		"", ".", "*", "*.", "*.*", "*.example.com", "*.com", ".example.com", "example.com", "example.com.", "a..example.com",
		"EXAMPLE.com", "node-1.example.com", "*.node-1.example.com", "node-1.example.com\x00", "node-1.example.com ",
		"-a.example.com", "a-.example.com", "@", "@example.com", "a@", "a@example.com", "A@EXAMPLE.com", "a@.example.com",
		"a@*.example.com", "a..b@example.com", ".a@example.com", "\"a\"@example.com", "\"a b\"@example.com", "a\\@b@example.com", "a@b@example.com",
		"https://node-1.example.com/", "https://example.com:443/", "https://example.com:/", "https://example.com:x/",
		"https://a:b@example.com/", "https://a:b:c/", "https://[::1]/", "https://[::1%25eth0]/", "https://[::1]x/", "https://10.0.0.1/", "https:///",
		"https://", "https:", ":", "//example.com/", "/a", "a/b", "a:b", "1a:b", "urn:x://example.com/", "a/b://example.com/",
		"https://example.com/%", "https://example.com/%zz", "https://exa%6dple.com/", "https://ex%c3%a4mple.com/", "https://a b/",
		"https://example.com?%", "https://example.com#%", "https://example.com./", "https://*.example.com/", "spiffe://example.com",
		"https://example.com\\@example.org/", "10.0.0.1", "::1", "\xe4", "a\x7fb", "a_b",
		"200101000000Z", "2001010000Z", "491231235959Z", "500101000000Z", "200101000000+0100", "200101000000-0000", "200101240000Z",
		"200229000000Z", "210229000000Z", "200101000060Z", "20200101000000Z", "20490101000000Z", "00000101000000Z", "99991231235959Z",
		"20200101000000.0Z", "20200101000000+0100", "20200101000000,5Z", "2001010000+0100", "+00101000000Z", "200101000000z", "200101000000+2300", "200101000000+2400", "200101000000+0060",
	}
	raw := [][]byte{
		{}, {0}, {1}, {0x7f}, {0x80}, {0xff}, {0, 0}, {0, 1}, {0, 0x80}, {0xff, 0x7f}, {0xff, 0x80}, {1, 0, 0, 0, 0}, {0, 0xff, 0xff, 0xff, 0xff},
		bytes.Repeat([]byte{0x7f}, 8), bytes.Repeat([]byte{0x7f}, 9), append([]byte{0}, bytes.Repeat([]byte{0xff}, 8)...), {5, 0xa0}, {7, 0x80}, {7, 0x81}, {8, 0}, {1, 6}, {0, 4}, {0, 0x80, 0x80},
		{0x55, 0x1d, 14}, {0x55, 0x1d, 15}, {0x55, 0x1d, 17}, {0x55, 0x1d, 18}, {0x55, 0x1d, 19}, {0x55, 0x1d, 30}, {0x55, 0x1d, 31},
		{0x55, 0x1d, 32}, {0x55, 0x1d, 33}, {0x55, 0x1d, 35}, {0x55, 0x1d, 36}, {0x55, 0x1d, 37}, {0x55, 0x1d, 54}, {0x55, 0x1d, 37, 0}, {0x55, 4, 3}, {0x55, 4, 10}, {0x55, 0x1d, 0x81, 0x0f},
		{0x2a, 0x80, 1}, {0x88, 0x80, 0x80, 0x80, 0}, {0x87, 0xff, 0xff, 0xff, 0x7f}, {0x2b, 6, 1, 5, 5, 7, 3, 1}, {0x2b, 6, 1, 5, 5, 7, 3, 2}, {0x2b, 6, 1, 5, 5, 7, 1, 1},
		{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}, {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}, {0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, {0x2b, 0x65, 0x70}, {0x2b, 0x65, 0x6e}, {0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1},
		{0x2b, 0x81, 4, 0, 0x21}, {0x2b, 0x81, 4, 0, 0x22}, {10, 0, 0, 1}, {10, 0, 0, 1, 0}, {10, 0, 0, 0, 255, 0, 0, 0}, {10, 0, 0, 1, 255, 0, 0, 0}, {10, 0, 0, 0, 255, 0, 255, 0},
		{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1}, bytes.Repeat([]byte{0}, 8), bytes.Repeat([]byte{0}, 32), {0, 0x4a, 0xd8, 0}, {0xff, 0xfe}, {0, 0x61, 0, 0},
	}
	switch {
	case m.IntN(3) == 0:
		return m.small()
	case tag == 2 || tag == 1 || tag == 3 || tag == 6 || tag == 0x87 || tag&0x20 != 0 || m.IntN(4) == 0:
		return raw[m.IntN(len(raw))]
	default:
		return []byte(texts[m.IntN(len(texts))])
	}
}
