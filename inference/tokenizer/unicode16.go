package tokenizer

import "unicode"

// Go's tables are those of Unicode 15; the reference's regular expressions know
// the letters and numbers of Unicode 16, and its lower case that of 17.
// TestEveryCodePoint holds the sum of both equal to the reference.

var newLetters = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1c89, 0x1c8a, 1}, {0xa7cb, 0xa7cd, 1}, {0xa7da, 0xa7dc, 1}},
	R32: []unicode.Range32{
		{0x105c0, 0x105f3, 1}, {0x10d4a, 0x10d65, 1}, {0x10d6f, 0x10d85, 1}, {0x10ec2, 0x10ec4, 1},
		{0x11380, 0x11389, 1}, {0x1138b, 0x1138b, 1}, {0x1138e, 0x1138e, 1}, {0x11390, 0x113b5, 1},
		{0x113b7, 0x113b7, 1}, {0x113d1, 0x113d1, 1}, {0x113d3, 0x113d3, 1}, {0x11bc0, 0x11be0, 1},
		{0x13460, 0x143fa, 1}, {0x16100, 0x1611d, 1}, {0x16d40, 0x16d6c, 1}, {0x18cff, 0x18cff, 1},
		{0x1e5d0, 0x1e5ed, 1}, {0x1e5f0, 0x1e5f0, 1}, {0x2ebf0, 0x2ee5d, 1},
	},
}

var newNumbers = &unicode.RangeTable{
	R32: []unicode.Range32{
		{0x10d40, 0x10d49, 1}, {0x116d0, 0x116e3, 1}, {0x11bf0, 0x11bf9, 1}, {0x16130, 0x16139, 1},
		{0x16d70, 0x16d79, 1}, {0x1ccf0, 0x1ccf9, 1}, {0x1e5f1, 0x1e5fa, 1},
	},
}

// lower is unicode.ToLower with the new pairs.
var lower = unicode.SpecialCase{
	{Lo: 0x1c89, Hi: 0x1c89, Delta: down(1)},
	{Lo: 0xa7cb, Hi: 0xa7cb, Delta: down(0x264 - 0xa7cb)},
	{Lo: 0xa7cc, Hi: 0xa7cc, Delta: down(1)},
	{Lo: 0xa7ce, Hi: 0xa7ce, Delta: down(1)},
	{Lo: 0xa7d2, Hi: 0xa7d2, Delta: down(1)},
	{Lo: 0xa7d4, Hi: 0xa7d4, Delta: down(1)},
	{Lo: 0xa7da, Hi: 0xa7da, Delta: down(1)},
	{Lo: 0xa7dc, Hi: 0xa7dc, Delta: down(0x19b - 0xa7dc)},
	{Lo: 0x10d50, Hi: 0x10d65, Delta: down(32)},
	{Lo: 0x16ea0, Hi: 0x16eb8, Delta: down(27)},
}

func down(delta rune) (d [unicode.MaxCase]rune) {
	d[unicode.LowerCase] = delta
	return d
}
