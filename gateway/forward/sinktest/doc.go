// Package sinktest holds the suite that every sink passes ([Run]), a sink that
// answers as a test tells it ([Sink]), a cursor in memory ([Cursor]), and a
// reader of the item format ([ParseItem]).
package sinktest
