#!/bin/sh
# nvidia-smi's table of one GPU.
case $1 in --query-gpu=index,uuid,name,*) ;; *) exit 2 ;; esac
echo "0, GPU-5090, NVIDIA GeForce RTX 5090, 2048, 32607, 12, 44, 88.10"
