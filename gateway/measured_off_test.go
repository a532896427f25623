//go:build !prove

package gateway

const measured = false
