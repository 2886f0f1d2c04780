import timm
from timm.utils.onnx import onnx_export

model = timm.create_model("vit_pe_core_tiny_patch16_384", exportable=True)
onnx_export(model, "pe.onnx", check=True, check_forward=True, batch_size=2)
