package amcheck

import "testing"

// TestWithoutRows: after which errors of amcheck the structure of an index is checked alone.
func TestWithoutRows(t *testing.T) {
	for code, want := range map[string]struct{ path, ok bool }{
		"42883": {true, true}, "42P01": {true, true}, "42704": {true, true}, "3F000": {true, true},
		"P0001": {false, true}, "22012": {false, true}, "22P02": {false, true}, "42804": {false, true},
		"XX000": {}, "XX001": {}, "XX002": {}, "08006": {}, "53100": {}, "54000": {}, "55P03": {}, "57014": {}, "57P01": {}, "58030": {}, "": {}, "4288": {},
	} {
		why, ok := withoutRows(code)
		if ok != want.ok || (why != "") != want.ok || ok && (why == "its expression fails when it is evaluated again") == want.path {
			t.Errorf("%q: %q, %t", code, why, ok)
		}
	}
}
