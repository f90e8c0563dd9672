package pgmedic_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
)

func TestCheckChunks(t *testing.T) {
	tables := []pgmedic.Table{{Name: "a", Format: pgmedic.CopyText}, {Name: "left to pg_dump"}}
	for name, tt := range map[string]struct {
		plain int64
		parts []pgmedic.Part
		ok    bool
	}{
		"one":               {7, []pgmedic.Part{{PlainBytes: 7}}, true},
		"several":           {7, []pgmedic.Part{{PlainBytes: 3}, {PlainBytes: 0}, {PlainBytes: 4}}, true},
		"none":              {7, nil, false},
		"too short":         {7, []pgmedic.Part{{PlainBytes: 3}, {PlainBytes: 3}}, false},
		"too long":          {7, []pgmedic.Part{{PlainBytes: 3}, {PlainBytes: 5}}, false},
		"negative":          {7, []pgmedic.Part{{PlainBytes: 9}, {PlainBytes: -2}}, false},
		"of no table":       {7, []pgmedic.Part{{Table: 2, PlainBytes: 7}}, false},
		"before the tables": {7, []pgmedic.Part{{Table: -1, PlainBytes: 7}}, false},
		"not in chunks":     {7, []pgmedic.Part{{Table: 1, PlainBytes: 7}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := &pgmedic.Backup{Tables: tables, Chunks: []pgmedic.Chunk{{Pack: "pack-0001", PlainBytes: tt.plain, Parts: tt.parts}}}
			if err := b.CheckChunks(); (err == nil) != tt.ok || err != nil && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Errorf("%v", err)
			}
		})
	}
}
