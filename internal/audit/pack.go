package audit

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Pack makes the Params of as many records as it takes to hold params and each item of
// some lists whole. A list is in the param of its name, its items separated by spaces;
// what is too long for that goes on in NAME_2, NAME_3 and so on. Of several records each
// has params, and which it is of how many. An item that is longer than a text may be is
// cut.
func Pack(params map[string]string, lists ...map[string][]string) []map[string]string {
	items := map[string][]string{}
	for _, some := range lists {
		for name, list := range some {
			items[name] = append(items[name], list...)
		}
	}
	type text struct{ name, value string }
	var texts []text
	for _, name := range slices.Sorted(maps.Keys(items)) {
		value, n := "", 1
		flush := func() {
			switch {
			case value == "":
				return
			case n == 1:
				texts = append(texts, text{name, value})
			default:
				texts = append(texts, text{fmt.Sprintf("%s_%d", name, n), value})
			}
			value, n = "", n+1
		}
		for _, item := range items[name] {
			item = clean(item)
			if value != "" && len(value)+1+len(item) > maxText {
				flush()
			}
			if value != "" {
				value += " "
			}
			value += item
		}
		flush()
	}
	room := max(1, maxParams-len(params)-1)
	parts := max(1, (len(texts)+room-1)/room)
	all := make([]map[string]string, 0, parts)
	for i := range parts {
		record := maps.Clone(params)
		if record == nil {
			record = map[string]string{}
		}
		for _, t := range texts[i*room : min(len(texts), (i+1)*room)] {
			record[t.name] = t.value
		}
		if parts > 1 {
			record["part"] = fmt.Sprintf("%d of %d", i+1, parts)
		}
		all = append(all, record)
	}
	return all
}

// continued matches the name of a param in which a list goes on.
var continued = regexp.MustCompile(`_[0-9]+$`)

// ListName is the name of the list that a param has a part of.
func ListName(param string) string { return continued.ReplaceAllString(param, "") }
