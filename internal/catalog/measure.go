package catalog

import "strings"

// measured is what a JSON text takes in memory once it is decoded.
type measured struct {
	memory int64
	// elements are how many the arrays of each name have, all together.
	elements map[string]int
}

// weights says how many bytes an element of each array takes, by its name in
// lower case. The empty name is for all others: what is not known is dear, for
// encoding/json takes some names that look different for a known one. Where a
// slice grows as it is decoded it takes more than twice its elements.
type weights map[string]int64

func manifestWeights() weights {
	return weights{
		"objects": 100, "tables": 160, "columns": 40, "chunks": 96, "parts": 30, "steps": 80, "acl": 120, "settings": 150,
		"extensions": 150, "roles": 80, "tablespaces": 80, "left_out_foreign_keys": 250, "labels": 100, "security_labels": 100,
		"schemas": 50, "exclude_tables": 50, "exclude_schemas": 50, "exclude_table_data": 50,
		"databases": 200, "truncations": 40, "page_errors": 100, "preload": 50, "": 400,
	}
}

func receiptWeights() weights { return weights{"checks": 200, "steps": 80, "settings": 150, "": 400} }

// mostElements are what single arrays have at most: a table has no more columns
// in PostgreSQL, and a chunk no more parts in pgmedic.
func mostElements() map[string]int { return map[string]int{"columns": 2000, "parts": 10000} }

// frame is an array or an object that a text is in.
type frame struct {
	name  string // in lower case, for encoding/json takes a name in any case
	array bool
	n     int
	// key is true where the next string is the name of a member.
	key bool
}

// measure estimates what a JSON text takes once it is decoded, without decoding
// it: a list of empty objects takes fifty times its own size. A text that is not
// valid JSON has some result, too.
func measure(data []byte, w weights) measured {
	m := measured{elements: map[string]int{}}
	most := mostElements()
	var frames []frame
	name := "" // of the member whose value comes
	element := func() {
		top := &frames[len(frames)-1]
		weight, known := w[top.name]
		if !known {
			weight = w[""]
		}
		if top.array {
			m.elements[top.name]++
			m.memory += weight
			if top.n++; most[top.name] > 0 && top.n > most[top.name] {
				m.memory = max(m.memory, 1<<50) // more than anything may take
			}
		} else if top.name == "labels" || top.name == "settings" { // maps
			m.memory += weight
		}
	}
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			begin := i + 1
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			text := data[begin:min(i, len(data))]
			if n := len(frames); n > 0 && frames[n-1].key {
				frames[n-1].key = false
				name = strings.ToLower(string(text[:min(len(text), 64)]))
			} else {
				m.memory += int64(len(text)+15) &^ 15
			}
		case '{', '[':
			frames = append(frames, frame{name: name, array: c == '[', key: c == '{'})
			name = ""
			if len(frames) > 1<<14 { // encoding/json refuses it, too
				return m
			}
			if next := skipSpace(data, i+1); next < len(data) && data[next] != ']' && data[next] != '}' {
				element()
			}
		case '}', ']':
			if len(frames) > 0 {
				frames = frames[:len(frames)-1]
			}
		case ',':
			if n := len(frames); n > 0 {
				frames[n-1].key = !frames[n-1].array
				element()
			}
		}
	}
	return m
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}
