import timm

model = timm.create_model("vit_pe_core_tiny_patch16_384", num_classes=0, img_size=224)
print(sum(weight.numel() for weight in model.parameters()))
