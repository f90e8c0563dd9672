// Package docs holds the pages that the program prints itself.
package docs

import _ "embed" // for the pages

// Findings is findings.md: every finding, under a heading that is its id.
//
//go:embed findings.md
var Findings string

// Emergency is emergency.md, the runbook.
//
//go:embed emergency.md
var Emergency string
